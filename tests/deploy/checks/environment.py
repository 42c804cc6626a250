"""Settings: what the code reads, and what is set in several places."""

import base64
import functools
import json
import pathlib
import re
import subprocess
import tempfile

import sources

from .objects import containers, is_ours, kind, name, pods, role_of, title


def secret_keys(objects, wanted):
    """The keys of a Secret, with their values where they are known."""
    for item in kind(objects, "Secret"):
        if name(item) == wanted:
            return {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
    for item in kind(objects, "ExternalSecret"):
        if item["spec"]["target"]["name"] == wanted:
            keys = [entry["secretKey"] for entry in item["spec"]["data"]]
            return {key: STORED.get(key, "x" * 32) for key in keys}
    return {}


def environment_of(objects, item):
    """The environment of a process, and what it names that there is not."""
    container = item["spec"]["template"]["spec"]["containers"][0]
    maps = {name(one): one["data"] for one in kind(objects, "ConfigMap")}
    environment, missing = {}, []
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            environment |= maps.get(source["configMapRef"]["name"], {})
        else:
            environment |= secret_keys(objects, source["secretRef"]["name"])
    for variable in container.get("env", []):
        if "value" in variable:
            environment[variable["name"]] = variable["value"]
            continue
        reference = variable["valueFrom"]["secretKeyRef"]
        found = secret_keys(objects, reference["name"])
        if reference["key"] not in found:
            missing.append(f"{title(item)}: Secret/{reference['name']} has no {reference['key']}")
        environment[variable["name"]] = found.get(reference["key"])
    return environment, missing


def environments_are_what_the_code_reads(objects):
    wrong = []
    for item, _ in pods(objects):
        if not is_ours(item):
            continue
        service, role = role_of(item)
        environment, missing = environment_of(objects, item)
        environment, absent = with_files(objects, item, environment)
        wrong += missing + absent + wrong_names(title(item), environment, service, role)
    return wrong


def with_files(objects, item, environment):
    """The same environment where paths of mounted secrets lead to files of this machine; and which lead nowhere."""
    spec = item["spec"]["template"]["spec"]
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume}
    mounts = {mount["mountPath"]: secrets[mount["name"]] for mount in spec["containers"][0].get("volumeMounts", [])
              if mount["name"] in secrets}
    found, absent = dict(environment), []
    for key, value in environment.items():
        if not key.endswith("_FILE"):
            continue
        folder, _, file = (value or "").rpartition("/")
        if file not in secret_keys(objects, mounts.get(folder, "")):
            absent.append(f"{title(item)}: {key} is {value}, where nothing is mounted")
        else:
            found[key] = str(stored_file(file))
    return found, absent


@functools.cache
def stored_file(name):
    """A file of a store that tests don't reach, in the form that the code expects: a service account's JSON."""
    key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    account = {"client_email": "lote@example.iam.gserviceaccount.com", "private_key": key, "private_key_id": "1",
               "token_uri": "https://oauth2.googleapis.com/token", "project_id": "example", "type": "service_account"}
    path = pathlib.Path(tempfile.mkdtemp()) / name
    path.write_text(json.dumps(account))
    return path


def accounts_are_asked_for(objects):
    """An installation on AWS sends messages, and reads the dashboards' source."""
    wanted = {"sms-dispatch": ("TELNYX_PUBLIC_KEY", "TWILIO_AUTH_TOKEN"), "etl": ("BIGQUERY_PROJECT_ID",)}
    wrong = []
    for item, _ in pods(objects):
        service, role = role_of(item) if is_ours(item) else (None, None)
        if service in wanted and role != "migrate":
            environment, _ = environment_of(objects, item)
            if not any(key in environment for key in wanted[service]):
                wrong.append(f"{title(item)} has none of {wanted[service]}")
    return wrong


# Secrets of a store that tests don't reach, in the form that the code expects.
STORED = {
    "DATABASE_URL": "postgres://role:password@db:5432/lote",
    "AMQP_URL": "amqps://role:password@rabbitmq:5671/lote",
    "REDIS_URL": "rediss://redis:6379",
    "SALES_DATABASE_URL": "mysql://role:password@sales:3306/sales",
    "KEY_ENCRYPTION_SECRET": "0" * 64,
    # Some Ed25519 key.
    "TELNYX_PUBLIC_KEY": "GX9rI+FshTLGq8g4+s1ep4m+DHaykgM0A5v6iz02jWE=",
}


@functools.cache
def told(binary, role, environment):
    """What the program itself says of an environment, or nothing."""
    done = subprocess.run([binary, "check-config", role, "--strict"], env=dict(environment), capture_output=True, text=True)
    assert done.returncode in (0, 1), f"{binary}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return "" if done.returncode == 0 else done.stdout


def wrong_names(who, environment, service, role):
    environment = frozenset((key, value or "") for key, value in environment.items())
    wrong = told(str(sources.binary(service)), role, environment)
    return [f"{who}: {wrong}"] if wrong else []


def ports_are_the_codes(objects):
    """APIs listen where their code says, and callers ask there."""
    wrong = []
    listen = {}
    for service in sources.services():
        found = re.search(r"(?:Role::Api => |const PORT: u16 = )(\d+)", sources.text(f"services/{service}/src/config.rs"))
        listen[service] = int(found[1])
    for item in kind(objects, "Deployment"):
        if not is_ours(item):
            continue
        service, role = role_of(item)
        ports = {port["name"]: port["containerPort"] for port in item["spec"]["template"]["spec"]["containers"][0]["ports"]}
        environment, _ = environment_of(objects, item)
        wanted = {"metrics": int(environment.get("METRICS_PORT", 0))} | ({"http": listen[service]} if role == "api" else {})
        if ports != wanted:
            wrong.append(f"{title(item)} has the ports {ports}, expected {wanted}")
        for key, value in environment.items():
            url = re.match(r"http://([a-z-]+):(\d+)", value or "")
            if url and (key.endswith("_URL")):
                services = [one for one in kind(objects, "Service") if name(one) == url[1]]
                if not any(port["port"] == int(url[2]) for one in services for port in one["spec"]["ports"]):
                    wrong.append(f"{title(item)}: {key} is {value}, and no Service has that name and port")
    return wrong


def consumer_timeout_is_one(objects):
    """RabbitMQ's patience with a handler, in every place and above the longest deadline."""
    text = sources.text("deploy/rabbitmq/lote.conf")
    said = int(re.search(r"^consumer_timeout = (\d+)$", text, re.M)[1])
    longest = max(sources.deadlines().values()) * 1000
    wrong = [] if said > longest else [f"consumer_timeout is {said}, and a handler may take {longest}"]
    places = [item["spec"]["rabbitmq"]["additionalConfig"] for item in kind(objects, "RabbitmqCluster")]
    places += [value for item in kind(objects, "ConfigMap") for key, value in item["data"].items() if "lote.conf" in key]
    if not places:
        wrong.append("RabbitMQ is told nothing")
    return wrong + [f"RabbitMQ is told {place!r}, expected consumer_timeout = {said}" for place in places
                    if f"consumer_timeout = {said}\n" not in place]
