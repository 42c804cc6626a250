"""deploy/aws against a LocalStack of its own; and what is set in several places, compared."""

import json
import os
import re
import subprocess

import boto3
import pytest
from botocore.config import Config

import sources
from rendering import BIN, run
from servers import answers, free_port, running
from sources import ROOT

NAMES = {"S3_BUCKET_NAME": "lote-test", "SQS_QUEUE_NAME": "lote-test-imports"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """The environment for LocalStack."""
    folder = tmp_path_factory.mktemp("localstack")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "SERVICES": "s3,sqs", "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}", "SQS_ENDPOINT_STRATEGY": "path", "DNS_ADDRESS": "0", "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1", "LOCALSTACK_VOLUME_DIR": str(folder / "volume"), "FILESYSTEM_ROOT": str(folder / "root"),
    }
    endpoint = f"http://127.0.0.1:{port}"
    command = [ROOT / ".stack/venv/bin/localstack-supervisor"]
    with running(command, folder / "log", lambda: answers(f"{endpoint}/_localstack/health"), env=environment):
        yield {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test",
               "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def setup(environment, *arguments):
    return run(BIN / "python", "deploy/aws/setup.py", *arguments, env=environment)


def clients(environment):
    options = {"endpoint_url": environment["AWS_ENDPOINT_URL"], "region_name": "us-east-1",
               "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", config=Config(s3={"addressing_style": "path"}), **options), boto3.client("sqs", **options)


def test_it_makes_what_there_should_be_and_the_second_run_changes_nothing(aws):
    environment = aws | NAMES
    s3, sqs = clients(aws)
    would = setup(environment, "--dry-run")
    assert "would make bucket lote-test" in would and "would make queue lote-test-imports-dlq" in would
    assert s3.list_buckets()["Buckets"] == [], "a dry run made a bucket"
    assert "QueueUrls" not in sqs.list_queues(), "a dry run made a queue"

    assert "make bucket lote-test" in setup(environment)
    assert setup(environment) == "0 changes\n"
    assert setup(environment, "--dry-run") == "0 changes\n"

    rules = {rule["Filter"]["Prefix"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="lote-test")["Rules"]}
    assert set(rules) == sources.prefixes() | {""}
    assert rules["uploads/"]["Expiration"]["Days"] == 97
    assert rules[""]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1
    url = sqs.get_queue_url(QueueName="lote-test-imports")["QueueUrl"]
    work = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    redrive = json.loads(work["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith(":lote-test-imports-dlq")
    assert int(redrive["maxReceiveCount"]) == sources.max_receives()
    assert (work["VisibilityTimeout"], work["MessageRetentionPeriod"]) == ("300", "86400")
    dead = sqs.get_queue_attributes(QueueUrl=url + "-dlq", AttributeNames=["All"])["Attributes"]
    assert dead["MessageRetentionPeriod"] == "1209600"

    # What somebody changed by hand comes back, and only that.
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "31"})
    s3.delete_bucket_lifecycle(Bucket="lote-test")
    assert setup(environment).splitlines() == [
        "set the lifecycle of bucket lote-test", "set VisibilityTimeout of queue lote-test-imports", "2 changes"]
    # A setting of the service wins over the file.
    assert "VisibilityTimeout" in setup(environment | {"SQS_VISIBILITY_TIMEOUT": "600"}, "--dry-run")


def test_localstack_is_set_up_by_the_same_program(aws, tmp_path):
    # As LocalStack runs it, in a folder such as a ConfigMap makes: of links into another one.
    (tmp_path / "..data").mkdir()
    for name, source in (("10-resources.py", "localstack/init/ready.d/10-resources.py"), ("setup.py", "deploy/aws/setup.py"),
                         ("resources.json", "deploy/aws/resources.json")):
        (tmp_path / "..data" / name).write_text(sources.text(source))
        (tmp_path / name).symlink_to(f"..data/{name}")
    runner = f"from localstack.runtime.init import PythonScriptRunner as Runner; Runner().run('{tmp_path}/10-resources.py')"
    environment = aws | {"LOTE_AWS_SETUP": str(tmp_path / "setup.py")}
    done = run(ROOT / ".stack/venv/bin/python", "-c", runner, env=environment)
    assert "make bucket medisupply-bulk-uploads" in done and "make queue medisupply-bulk-upload-queue-dlq" in done
    assert setup(aws) == "0 changes\n"


def test_policies_name_what_a_service_writes_and_nothing_more(tmp_path):
    run(BIN / "python", "deploy/aws/setup.py", "--policies", tmp_path, "--account", "123456789012",
        env={"PATH": os.environ["PATH"], **NAMES})
    allowed = {}
    for path in tmp_path.glob("*.json"):
        for statement in json.loads(path.read_text())["Statement"]:
            assert statement["Effect"] == "Allow" and "*" not in statement["Action"], path
            assert not any(action.endswith(":*") for action in statement["Action"]), path
            for resource in statement["Resource"]:
                assert resource not in ("*", "arn:aws:s3:::*", "arn:aws:s3:::lote-test/*"), path
                allowed.setdefault(path.stem, set()).add(resource)
    found = {resource.removeprefix("arn:aws:s3:::lote-test/").removesuffix("*")
             for resources in allowed.values() for resource in resources if resource.startswith("arn:aws:s3:::lote-test/")}
    assert found == sources.prefixes()
    assert allowed["external-secrets"] == {"arn:aws:secretsmanager:us-east-1:123456789012:secret:lote/production/*"}
    # A prefix is of one service.
    for prefix in found:
        owners = {service for service, resources in allowed.items() if f"arn:aws:s3:::lote-test/{prefix}*" in resources}
        assert len(owners) == 1, (prefix, owners)
    assert {service for service, resources in allowed.items() if "arn:aws:sqs:us-east-1:123456789012:lote-test-imports-dlq" in resources} == {"catalog-upload"}


def test_a_policy_with_an_unknown_name_is_refused(tmp_path):
    copy = tmp_path / "aws"
    copy.mkdir()
    for name in ("setup.py", "resources.json"):
        (copy / name).write_text(sources.text(f"deploy/aws/{name}"))
    (copy / "policies").mkdir()
    (copy / "policies/x.json").write_text('{"Statement": [{"Resource": "${TOPIC}"}]}')
    done = subprocess.run([BIN / "python", copy / "setup.py", "--policies", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode != 0 and "nobody knows" in done.stderr


def disagreements(resources):
    """What resources.json says otherwise than the code."""
    wrong = []
    on_sqs = {name for name, transport in sources.queues().items() if transport == "sqs"}
    if {queue["queue"] for queue in resources["queues"]} != on_sqs:
        wrong.append(f"the code's queues on SQS are {on_sqs}")
    broker = sources.text("crates/chassis/src/config/broker.rs")
    for queue in resources["queues"]:
        if queue["max_receives"] != sources.max_receives():
            wrong.append(f"the code says {sources.max_receives()} receives")
        for name, key in (("SQS_VISIBILITY_TIMEOUT", "visibility_seconds"), ("SQS_MESSAGE_RETENTION", "retention_seconds"),
                          ("SQS_WAIT_SECONDS", "wait_seconds")):
            default = int(re.search(rf'"{name}", ([\d_]+),', broker)[1].replace("_", ""))
            if queue[key] != default:
                wrong.append(f"the code's {name} is {default}")
        if f'"{queue["name"]}"' not in broker:
            wrong.append(f"the code's queue is not called {queue['name']}")
    if {rule["prefix"] for rule in resources["bucket"]["expire"]} != sources.prefixes():
        wrong.append(f"services write to {sources.prefixes()}")
    return wrong


def test_resources_are_the_codes():
    assert disagreements(sources.resources()) == []


@pytest.mark.parametrize("breaks", [
    lambda r: r["queues"].pop(),
    lambda r: r["queues"][0].update(max_receives=20),
    lambda r: r["queues"][0].update(visibility_seconds=30),
    lambda r: r["queues"][0].update(name="imports"),
    lambda r: r["bucket"]["expire"].pop(),
])
def test_sees_what_the_code_says_otherwise(breaks):
    resources = sources.resources()
    breaks(resources)
    assert disagreements(resources) != []
