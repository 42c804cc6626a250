#!/usr/bin/env python3
"""Makes, or brings up to date, what Lote has at AWS: the bucket with its lifecycle, the queues with their dead letters.

    deploy/aws/setup.py [--dry-run]     says what it changes; a second run changes nothing
    deploy/aws/setup.py --policies DIR  writes each service's least-privilege policy, and makes nothing

What there should be is in resources.json; the services' own variables (S3_BUCKET_NAME, SQS_QUEUE_NAME, SQS_VISIBILITY_TIMEOUT,
SQS_MESSAGE_RETENTION, IMPORT_RETENTION_DAYS, REPORT_FILE_DAYS, …) win over it. Credentials and region come as for the AWS CLI;
AWS_ENDPOINT_URL points at LocalStack. Needs boto3.
"""

import argparse
import json
import os
import pathlib
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = pathlib.Path(__file__).resolve().parent
REGION = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1"


class Setup:
    """Compares what is there with what should be, and changes what differs unless it only looks."""

    def __init__(self, resources, dry_run):
        self.resources = resources
        self.dry_run = dry_run
        self.changes = 0
        self.local = bool(os.environ.get("AWS_ENDPOINT_URL"))
        # LocalStack has no host a bucket.
        config = Config(s3={"addressing_style": "path"} if self.local else {}, retries={"mode": "standard"})
        self.s3 = boto3.client("s3", region_name=REGION, config=config)
        self.sqs = boto3.client("sqs", region_name=REGION)

    def change(self, what, action):
        self.changes += 1
        print(("would " if self.dry_run else "") + what)
        return None if self.dry_run else action()

    # --- the bucket --------------------------------------------------------------------------------------------

    def bucket(self):
        wanted = self.resources["bucket"]
        name = setting(wanted["variable"], wanted["name"])
        try:
            self.s3.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            where = {} if REGION == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
            self.change(f"make bucket {name}", lambda: self.s3.create_bucket(Bucket=name, **where))
            if self.dry_run:
                print(f"would set its lifecycle, public access block and policy ({len(wanted['expire'])} prefixes expire)")
                return
        self.setting_of(
            name, "lifecycle", "NoSuchLifecycleConfiguration", lifecycle(wanted),
            get=lambda: by_id(self.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]),
            put=lambda rules: self.s3.put_bucket_lifecycle_configuration(
                Bucket=name, LifecycleConfiguration={"Rules": rules}))
        self.setting_of(
            name, "public access block", "NoSuchPublicAccessBlockConfiguration",
            dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True),
            get=lambda: self.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
            put=lambda block: self.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block))
        # The development's LocalStack is asked over plain HTTP.
        if not self.local:
            self.setting_of(
                name, "policy", "NoSuchBucketPolicy", only_over_tls(name),
                get=lambda: json.loads(self.s3.get_bucket_policy(Bucket=name)["Policy"]),
                put=lambda policy: self.s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy)))

    def setting_of(self, bucket, what, missing, wanted, get, put):
        try:
            there = get()
        except ClientError as error:
            if error.response["Error"]["Code"] != missing:
                raise
            there = None
        if there != wanted:
            self.change(f"set the {what} of bucket {bucket}", lambda: put(wanted))

    # --- the queues --------------------------------------------------------------------------------------------

    def queues(self):
        for queue in self.resources["queues"]:
            name = setting(queue["variable"], queue["name"])
            common = {
                "VisibilityTimeout": setting("SQS_VISIBILITY_TIMEOUT", queue["visibility_seconds"]),
                "MaximumMessageSize": str(queue["max_bytes"]),
                "ReceiveMessageWaitTimeSeconds": str(queue["wait_seconds"]),
                "SqsManagedSseEnabled": "true",
            }
            dead = self.queue(name + "-dlq", {**common, "MessageRetentionPeriod": str(queue["dead_retention_seconds"])})
            policy = {"deadLetterTargetArn": dead, "maxReceiveCount": queue["max_receives"]}
            retention = setting("SQS_MESSAGE_RETENTION", queue["retention_seconds"])
            self.queue(name, {**common, "MessageRetentionPeriod": retention, "RedrivePolicy": json.dumps(policy)})

    def queue(self, name, wanted):
        """Gives the queue's ARN; of one that a dry run did not make, its name."""
        try:
            url = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except self.sqs.exceptions.QueueDoesNotExist:
            made = self.change(f"make queue {name}", lambda: self.sqs.create_queue(QueueName=name, Attributes=wanted))
            if made is None:
                return name
            url = made["QueueUrl"]
        there = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        differ = {key: value for key, value in wanted.items() if not same(there.get(key), value)}
        if differ:
            self.change(
                f"set {', '.join(sorted(differ))} of queue {name}",
                lambda: self.sqs.set_queue_attributes(QueueUrl=url, Attributes=differ))
        return there["QueueArn"]


def setting(variable, default):
    return os.environ.get(variable) or str(default)


def same(there, wanted):
    """Attributes are text; a policy is JSON, whose spelling and types differ."""
    def plain(text):
        try:
            value = json.loads(text)
        except (TypeError, ValueError):
            return text
        return {key: str(part) for key, part in value.items()} if isinstance(value, dict) else str(value)
    return plain(there) == plain(wanted)


def by_id(rules):
    """Rules in one order, without what AWS adds to those that ask for nothing else."""
    return sorted(rules, key=lambda rule: rule["ID"])


def lifecycle(bucket):
    rules = [
        {
            "ID": f"expire-{rule['prefix'].rstrip('/')}",
            "Status": "Enabled",
            "Filter": {"Prefix": rule["prefix"]},
            "Expiration": {"Days": int(setting(rule["variable"], rule["days"])) + rule["spare"]},
        }
        for rule in bucket["expire"]
    ]
    # Parts of uploads that died in the middle are invisible, and cost like any other.
    rules.append({
        "ID": "abort-incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": bucket["abort_incomplete_uploads_days"]},
    })
    return by_id(rules)


def only_over_tls(bucket):
    arn = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "OnlyOverTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }],
    }


def policies(resources, folder, account, secrets):
    """Writes policies/*.json with the names of this installation into `folder`."""
    bucket = setting(resources["bucket"]["variable"], resources["bucket"]["name"])
    names = {"BUCKET": bucket, "REGION": REGION, "ACCOUNT": account, "SECRETS": secrets}
    for queue in resources["queues"]:
        names["QUEUE:" + queue["queue"]] = setting(queue["variable"], queue["name"])
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted((HERE / "policies").glob("*.json")):
        text = source.read_text()
        for name, value in names.items():
            text = text.replace("${" + name + "}", value)
        if "${" in text:
            sys.exit(f"{source}: a name is left that nobody knows")
        (folder / source.name).write_text(json.dumps(json.loads(text), indent=2) + "\n")
        print(f"wrote {folder / source.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--policies", type=pathlib.Path, metavar="DIR", help="write the services' policies there")
    parser.add_argument("--secrets", default="lote/production/", metavar="PREFIX", help="of the secrets' names, for policies")
    parser.add_argument("--account", default="000000000000", help="the account's number, for policies")
    arguments = parser.parse_args()
    resources = json.loads((HERE / "resources.json").read_text())
    if arguments.policies:
        policies(resources, arguments.policies, arguments.account, arguments.secrets)
        return
    setup = Setup(resources, arguments.dry_run)
    setup.bucket()
    setup.queues()
    print(f"{setup.changes} changes")


main()
