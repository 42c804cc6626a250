"""What must hold of the objects of an overlay. Each check gives what is wrong, a line each; the tests expect none, and that a
broken copy has some."""

import base64
import functools
import re
import subprocess

import sources

OURS = ("api", "worker", "migrate")
# Images that can't run without writing to their root, and why.
WRITES_ITS_ROOT = {"localstack": "it unpacks its services below /usr and /opt"}
MI = 1024 * 1024


# --- helpers ------------------------------------------------------------------------------------------------------


def kind(objects, *kinds):
    return [item for item in objects if item["kind"] in kinds]


def name(item):
    return item["metadata"]["name"]


def labels(item):
    return item["metadata"].get("labels", {})


def title(item):
    return f"{item['kind']}/{name(item)}"


def pods(objects):
    """Each object that makes pods, with their template."""
    for item in kind(objects, "Deployment", "StatefulSet", "Job"):
        yield item, item["spec"]["template"]


def containers(objects):
    for item, template in pods(objects):
        for container in template["spec"].get("initContainers", []) + template["spec"]["containers"]:
            yield item, template["spec"], container


def is_ours(item):
    return labels(item).get("app.kubernetes.io/part-of") == "lote" and labels(item).get("app.kubernetes.io/component") in OURS


def matches(selector, found):
    """Whether a label selector fits labels. matchExpressions are not used here."""
    assert set(selector) <= {"matchLabels"}, selector
    return all(found.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def amount(text):
    """A quantity of memory in bytes, or of processors in cores."""
    text = str(text)
    for suffix, factor in (("Ki", 1024), ("Mi", MI), ("Gi", 1024 * MI), ("m", 0.001)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def role_of(item):
    """The service and role of a process, from what it runs: its image and first argument."""
    container = item["spec"]["template"]["spec"]["containers"][0]
    image = re.search(r"lote/([a-z-]+)", container["image"])
    return image and image[1], container.get("args", [None])[0]


# --- the checks ---------------------------------------------------------------------------------------------------


def every_service_has_its_rows(objects):
    """CONTRIBUTING's "Adding a service": what each service and role of tests/stack has in a cluster."""
    there = {title(item) for item in objects}
    wanted = []
    for service, roles in sources.services().items():
        wanted += [f"ServiceAccount/{service}", f"ServiceMonitor/{service}", f"Service/{service}-metrics",
                   f"NetworkPolicy/{service}", f"Job/migrate-{service}"]
        if "worker" in roles:
            wanted.append(f"ScaledObject/{service}-worker")
    for process, service, role in sources.processes():
        wanted += [f"Deployment/{process}", f"PodDisruptionBudget/{process}"]
        if role == "api":
            wanted += [f"Service/{process}", f"NetworkPolicy/{service}-api"]
    return [f"{item} is missing" for item in wanted if item not in there]


def roles_run_what_they_are_called(objects):
    wanted = {process: (service, role) for process, service, role in sources.processes()}
    wanted |= {f"migrate-{service}": (service, "migrate") for service in sources.services()}
    return [f"{title(item)} runs {role_of(item)}" for item, _ in pods(objects)
            if is_ours(item) and role_of(item) != wanted.get(name(item))]


def pods_are_locked_down(objects):
    wrong = []
    for item, pod, container in containers(objects):
        def say(what):
            wrong.append(f"{title(item)}: {what}")
        security, of_pod = container.get("securityContext", {}), pod.get("securityContext", {})
        if of_pod.get("runAsNonRoot") is not True or not of_pod.get("runAsUser"):
            say("may run as root")
        if is_ours(item) and of_pod.get("runAsUser") != 10001:
            say("does not run as the images' user, 10001")
        if of_pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            say("has no seccomp profile")
        if security.get("readOnlyRootFilesystem") is not True and name(item) not in WRITES_ITS_ROOT:
            say("can write to its root")
        if security.get("allowPrivilegeEscalation") is not False:
            say("may gain privileges")
        if security.get("capabilities") != {"drop": ["ALL"]}:
            say("has capabilities")
        if security.get("privileged") or pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC"):
            say("shares the host's")
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            say("mounts a path of the host")
        if pod.get("automountServiceAccountToken") is not False:
            say("has a token of Kubernetes' API")
        if pod.get("enableServiceLinks") is not False:
            say("gets a variable for each Service")
    return wrong


# What was measured at most, in megabytes, and of which process: docs/benchmarks.md.
PEAKS = {"catalog-upload-worker": "worker_peak_1m", "report-worker": "peak_memory_4m", "sms-dispatch-worker": "peak_memory"}


def resources_come_from_peaks(objects):
    wrong = []
    for item, _, container in containers(objects):
        resources = container.get("resources", {})
        missing = [f"{part}.{what}" for part in ("requests", "limits") for what in ("cpu", "memory")
                   if what not in resources.get(part, {})]
        if missing:
            wrong.append(f"{title(item)} has no {', '.join(missing)}")
            continue
        request, limit = (amount(resources[part]["memory"]) for part in ("requests", "limits"))
        if request > limit:
            wrong.append(f"{title(item)} asks for more memory than its limit")
        peak = PEAKS.get(name(item))
        if peak:
            peak = sources.measured_megabytes(peak) * 1_000_000
            # The peak is of one job: a worker has two at once, and some is to spare.
            if limit < 2 * peak * 1.2:
                wrong.append(f"{title(item)}: {limit / MI:.0f} Mi are too few for a peak of {peak / MI:.0f} twice")
            if request < peak:
                wrong.append(f"{title(item)}: asks for less than the {peak / MI:.0f} Mi that it takes")
    return wrong


def processes_are_probed(objects):
    wrong = []
    for item, _, container in containers(objects):
        if item["kind"] == "Job":
            continue
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe") + (("startupProbe",) if is_ours(item) else ()):
            found = container.get(probe)
            if not found:
                wrong.append(f"{title(item)} has no {probe}")
                continue
            port = (found.get("httpGet") or found.get("tcpSocket") or {}).get("port")
            if port is not None and port not in ports:
                wrong.append(f"{title(item)}: {probe} asks a port that it does not have: {port}")
        if is_ours(item):
            paths = {probe: container.get(probe, {}).get("httpGet", {}).get("path")
                     for probe in ("readinessProbe", "livenessProbe")}
            if paths != {"readinessProbe": "/health/ready", "livenessProbe": "/health/live"}:
                wrong.append(f"{title(item)}: a database that is down would restart it: {paths}")
    return wrong


def pods_end_in_their_own_time(objects):
    wrong = []
    for item, template in pods(objects):
        if not is_ours(item) or item["kind"] != "Deployment":
            continue
        environment, _ = environment_of(objects, item)
        lame, drain = (int(environment.get(key, 0)) for key in ("HTTP_LAME_DUCK_SECONDS", "HTTP_DRAIN_SECONDS"))
        # Jobs that do not stop at a batch are dropped after ten seconds.
        needed = lame + drain + sources.event_deadline() + 10
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        if not lame:
            wrong.append(f"{title(item)} closes its port while requests still come")
        if grace <= needed:
            wrong.append(f"{title(item)} is killed after {grace} s, and may need {needed}")
        rolling = item["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0:
            wrong.append(f"{title(item)}: an old pod goes before a new one is ready")
    return wrong


def there_are_two_of_what_people_wait_for(objects):
    wrong = []
    for item in kind(objects, "Deployment"):
        if labels(item).get("app.kubernetes.io/component") == "api" and item["spec"].get("replicas", 1) < 2:
            wrong.append(f"{title(item)} has one replica")
        if labels(item).get("app.kubernetes.io/component") == "worker" and "replicas" in item["spec"]:
            wrong.append(f"{title(item)} says a number that is KEDA's to say")
    return wrong


def selectors_match(objects):
    wrong = []
    templates = [(item, template) for item, template in pods(objects)]
    fixed = {name(item): item for item in kind(objects, "Deployment", "StatefulSet")}
    # By its operator: pods with the cluster's name.
    operated = [{"app.kubernetes.io/name": name(item)} for item in kind(objects, "RabbitmqCluster")]

    def found(selector):
        return ([item for item, template in templates if matches(selector, template["metadata"].get("labels", {}))]
                or [one for one in operated if matches(selector, one)])

    for item in kind(objects, "Deployment", "StatefulSet"):
        if not matches(item["spec"]["selector"], item["spec"]["template"]["metadata"]["labels"]):
            wrong.append(f"{title(item)} does not select its own pods")
        others = [name(other) for other in found(item["spec"]["selector"]) if name(other) != name(item)]
        if others:
            wrong.append(f"{title(item)} selects pods of {others}")
    for item in kind(objects, "Service"):
        chosen = found({"matchLabels": item["spec"]["selector"]})
        if not chosen:
            wrong.append(f"{title(item)} selects no pod")
        for port in item["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for one in chosen:
                if not isinstance(one, dict) or "spec" not in one:
                    continue
                ports = one["spec"]["template"]["spec"]["containers"][0].get("ports", [])
                if not any(target in (have.get("name"), have["containerPort"]) for have in ports):
                    wrong.append(f"{title(item)}: {title(one)} has no port {target}")
    for item in kind(objects, "PodDisruptionBudget"):
        chosen = [one for one in found(item["spec"]["selector"]) if one.get("kind") != "Job"]
        if len(chosen) != 1:
            wrong.append(f"{title(item)} selects {len(chosen)} Deployments, expected 1")
    for item in kind(objects, "NetworkPolicy"):
        selector = item["spec"]["podSelector"]
        if selector and not found(selector):
            wrong.append(f"{title(item)} selects no pod")
    for item in kind(objects, "ScaledObject"):
        if item["spec"]["scaleTargetRef"]["name"] not in fixed:
            wrong.append(f"{title(item)} scales nothing that there is")
    for item in kind(objects, "ServiceMonitor"):
        chosen = [one for one in kind(objects, "Service") if matches(item["spec"]["selector"], labels(one))]
        names = {port["name"] for one in chosen for port in one["spec"]["ports"]}
        wanted = {endpoint["port"] for endpoint in item["spec"]["endpoints"]}
        if not chosen or not wanted <= names:
            wrong.append(f"{title(item)} finds no Service with the ports {wanted}")
    for item in kind(objects, "Ingress"):
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if not any(name(one) == backend["name"] and backend["port"]["name"] in
                           [port["name"] for port in one["spec"]["ports"]] for one in kind(objects, "Service")):
                    wrong.append(f"{title(item)} leads to {backend}, which there is not")
    return wrong


def references_resolve(objects):
    there = {(item["kind"], name(item)) for item in objects}
    there |= {("Secret", item["spec"]["target"]["name"]) for item in kind(objects, "ExternalSecret")}
    wrong = []
    for item, template in pods(objects):
        spec = template["spec"]
        wanted = []
        if "serviceAccountName" in spec:
            wanted.append(("ServiceAccount", spec["serviceAccountName"]))
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                wanted.append(("ConfigMap", volume["configMap"]["name"]))
            if "secret" in volume:
                wanted.append(("Secret", volume["secret"]["secretName"]))
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                for key, of in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if key in source:
                        wanted.append((of, source[key]["name"]))
        wrong += [f"{title(item)} needs {of}/{one}, which there is not" for of, one in wanted if (of, one) not in there]
    for item in kind(objects, "ScaledObject"):
        for trigger in item["spec"]["triggers"]:
            one = trigger["authenticationRef"]["name"]
            if ("TriggerAuthentication", one) not in there:
                wrong.append(f"{title(item)} needs TriggerAuthentication/{one}, which there is not")
    for item in kind(objects, "TriggerAuthentication"):
        for target in item["spec"].get("secretTargetRef", []):
            if ("Secret", target["name"]) not in there:
                wrong.append(f"{title(item)} needs Secret/{target['name']}, which there is not")
            elif target["key"] not in secret_keys(objects, target["name"]):
                wrong.append(f"{title(item)}: Secret/{target['name']} has no {target['key']}")
    for item in kind(objects, "RabbitmqCluster"):
        if ("Secret", item["spec"]["secretBackend"]["externalSecret"]["name"]) not in there:
            wrong.append(f"{title(item)} has no first user")
    for item in kind(objects, "ExternalSecret"):
        if ("SecretStore", item["spec"]["secretStoreRef"]["name"]) not in there:
            wrong.append(f"{title(item)} has no store")
    return wrong


# --- scaling ------------------------------------------------------------------------------------------------------

# How many handlers of a queue a pod has: a setting's default, or the number that the job's file names.
HANDLERS = {
    "catalog.imports": "IMPORT_CONCURRENCY",
    "catalog.reports": "IMPORT_CONCURRENCY",
    "report.events": "REPORT_INGEST_CONCURRENCY",
    "report.runs": "services/report/src/jobs/start_run.rs",
    "report.campaigns": "REPORT_CONCURRENCY",
    "etl.runs": "ETL_CONCURRENCY",
    "etl.webhooks": "services/etl/src/jobs/refetch_resource.rs",
    # These name no number: JobKind::new's.
    "sms.imports": "crates/jobs/src/kind.rs",
    "sms.validations": "crates/jobs/src/kind.rs",
    "sms.audiences": "crates/jobs/src/kind.rs",
    "sms.bulk": "SMS_SLICES_AT_ONCE",
    "sms.priority": "SMS_SINGLES_AT_ONCE",
}


def handlers(queue):
    where = HANDLERS[queue]
    if "/" not in where:
        return sources.default(where)
    return int(re.search(r"\bconcurrency: (\d+)", sources.without_tests(sources.text(where)))[1])


def queue_of(trigger, objects):
    """The logical name of what a trigger watches, and on which transport."""
    metadata = trigger["metadata"]
    if trigger["type"] == "rabbitmq":
        return metadata["queueName"], "amqp"
    physical = metadata["queueURL"].rsplit("/", 1)[-1]
    for item in kind(objects, "ConfigMap"):
        if item["data"].get("SQS_QUEUE_NAME") == physical:
            return "catalog.imports", "sqs"
    return physical, "sqs"


def triggers_watch_the_roles_queues(objects):
    wrong = []
    for item in kind(objects, "ScaledObject"):
        service = labels(item)["app.kubernetes.io/name"]
        watched = [queue_of(trigger, objects) for trigger in item["spec"]["triggers"]]
        wanted = [(queue, sources.queues()[queue]) for queue in sources.queues_of(service)]
        if sorted(watched) != sorted(wanted):
            wrong.append(f"{title(item)} watches {sorted(watched)}, expected {sorted(wanted)}")
        for trigger in item["spec"]["triggers"]:
            queue, _ = queue_of(trigger, objects)
            metadata = trigger["metadata"]
            value = metadata.get("value") or metadata.get("queueLength")
            if queue in HANDLERS and int(value) != handlers(queue):
                wrong.append(f"{title(item)}: {value} of {queue} a pod, but a pod has {handlers(queue)} handlers")
    return wrong


def triggers_count_what_is_in_hand(objects):
    wrong = []
    for item in kind(objects, "ScaledObject"):
        for trigger in item["spec"]["triggers"]:
            metadata = trigger["metadata"]
            if trigger["type"] == "rabbitmq":
                good = metadata.get("protocol") == "http" and metadata.get("mode") == "QueueLength"
                good &= metadata.get("activationValue") == "0" and metadata.get("excludeUnacknowledged", "false") == "false"
            else:
                good = metadata.get("scaleOnInFlight") == "true" and metadata.get("activationQueueLength") == "0"
            if not good:
                wrong.append(f"{title(item)}: {metadata} counts other messages than ready and in hand")
    for item in kind(objects, "Secret"):
        if name(item) == "rabbitmq-management":
            host = base64.b64decode(item["data"]["host"]).decode()
            if not host.startswith("http") or not host.endswith("/"):
                wrong.append(f"{host} has no virtual host: it must end in /")
    return wrong


def nobody_is_scaled_away_on_a_guess(objects):
    """Missing statistics read as 0: a cooldown longer than their gaps, and a fallback that keeps what runs."""
    wrong = []
    for item in kind(objects, "ScaledObject"):
        spec = item["spec"]
        if min(spec.get("cooldownPeriod", 0), spec.get("initialCooldownPeriod", 0)) < 600:
            wrong.append(f"{title(item)} goes to zero within ten minutes")
        if spec.get("fallback", {}).get("behavior") != "currentReplicasIfHigher":
            wrong.append(f"{title(item)}: a broker that does not answer takes workers away")
        behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
        if behavior.get("scaleDown", {}).get("stabilizationWindowSeconds", 0) < 300:
            wrong.append(f"{title(item)} comes down at the first lull")
        # What begins by the clock, and fills queues, must not end with the last worker.
        alone = only_in_worker(labels(item)["app.kubernetes.io/name"])
        least = 1 if re.search(r"\b(Scheduler|Feeder|Refresher|Upkeep)::new", alone) else 0
        if spec.get("minReplicaCount", 0) != least:
            wrong.append(f"{title(item)}: at least {spec.get('minReplicaCount', 0)}, expected {least}")
        if not 0 < spec.get("maxReplicaCount", 100) <= 8:
            wrong.append(f"{title(item)} has no bound")
    return wrong


def only_in_worker(service):
    """What run_worker alone starts, and not what either role does."""
    source = sources.text(f"services/{service}/src/app.rs")
    return source.split("pub async fn run_worker")[1].split("\n}\n")[0]


def pools_fit(objects):
    """All pods at their most, one more of each while it rolls, and all migrations at once."""
    scaled = {item["spec"]["scaleTargetRef"]["name"]: item["spec"]["maxReplicaCount"] for item in kind(objects, "ScaledObject")}
    total = 0
    for item, _ in pods(objects):
        if not is_ours(item):
            continue
        if item["kind"] == "Job":
            total += 2
            continue
        environment, _ = environment_of(objects, item)
        pool = int(environment.get("DATABASE_MAX_CONNECTIONS", 16))
        surge = item["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 1)
        total += pool * (scaled.get(name(item), item["spec"].get("replicas", 1)) + surge)
    # PostgreSQL keeps three for superusers; people, backups and exporters need some.
    total += 13
    most = max_connections(objects)
    return [] if total <= most else [f"{total} connections at most, and PostgreSQL takes {most}"]


def max_connections(objects):
    for item in kind(objects, "StatefulSet"):
        if name(item) == "postgresql":
            arguments = " ".join(item["spec"]["template"]["spec"]["containers"][0]["args"])
            return int(re.search(r"max_connections=(\d+)", arguments)[1])
    (namespace,) = kind(objects, "Namespace")
    return int(namespace["metadata"]["annotations"]["lote.dev/postgresql-max-connections"])


# --- environment --------------------------------------------------------------------------------------------------


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
        wrong += missing + wrong_names(title(item), environment, service, role)
    return wrong


# Secrets of a store that tests don't reach, in the form that the code expects.
STORED = {
    "DATABASE_URL": "postgres://role:password@db:5432/lote",
    "AMQP_URL": "amqps://role:password@rabbitmq:5671/lote",
    "REDIS_URL": "rediss://redis:6379",
    "SALES_DATABASE_URL": "mysql://role:password@sales:3306/sales",
    "KEY_ENCRYPTION_SECRET": "0" * 64,
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


# --- secrets and images -------------------------------------------------------------------------------------------


def no_secret_is_in_the_manifests(objects):
    wrong = [f"{title(item)} is written down" for item in kind(objects, "Secret")]
    for item in kind(objects, "ConfigMap"):
        for key, value in item["data"].items():
            if re.search(r"PASSWORD|SECRET|TOKEN(?!_)|API_KEY$|ACCESS_KEY|DATABASE_URL|AMQP_URL|REDIS_URL", key):
                wrong.append(f"{title(item)} has {key}")
            if re.search(r"://[^/\s]*:[^/\s]+@", value):
                wrong.append(f"{title(item)}: {key} has a password in its URL")
    for item, _, container in containers(objects):
        for variable in container.get("env", []):
            if "value" in variable and re.search(r"PASSWORD|SECRET|TOKEN|KEY", variable["name"]):
                wrong.append(f"{title(item)} has {variable['name']}")
    return wrong


def images_are_fixed(objects):
    wrong = []
    for item, _, container in containers(objects):
        image = container["image"]
        if not re.search(r"@sha256:[0-9a-f]{64}$", image):
            wrong.append(f"{title(item)} runs {image}, which is no digest")
    return wrong


def images_have_versions(objects):
    return [f"{title(item)} runs {container['image']}" for item, _, container in containers(objects)
            if not re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", container["image"]) or container["image"].endswith(":latest")]


# --- network ------------------------------------------------------------------------------------------------------

# Who is outside of the namespace, or of the cluster: how a policy would name it, and the ports that it takes.
OUTSIDE_PODS = {
    "traefik": ("traefik", {"app.kubernetes.io/name": "traefik"}),
    "prometheus": ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "keda": ("keda", {"app": "keda-operator"}),
}
PRIVATE, INTERNET = "10.0.7.7", "203.0.113.7"
# Servers by the name that the table of flows gives them: as pods of a cluster on a laptop, and outside on AWS.
SERVERS = {
    "postgresql": (("postgresql", 5432), (PRIVATE, 5432)),
    "redis": (("redis", 6379), (PRIVATE, 6379)),
    "sales-database": (("mariadb", 3306), (PRIVATE, 3306)),
    "s3": (("localstack", 4566), (INTERNET, 443)),
    "sqs": (("localstack", 4566), (INTERNET, 443)),
    "bsale": (("bsale", 8080), (INTERNET, 443)),
    "bigquery": (("bigquery", 8080), (INTERNET, 443)),
    "telnyx": ((None, 443), (INTERNET, 443)),
}


def network(objects):
    """Which flows the policies open: {(from, to)} between all processes, servers and those outside, by the policies of who
    talks, and by those of who is talked to. A flow is open where both agree; each must say no more than the table."""
    in_cluster = any(name(item) == "postgresql" for item in kind(objects, "StatefulSet"))
    ours, peers = {}, {}
    for item, template in pods(objects):
        peers[name(item)] = ("lote", template["metadata"]["labels"])
        if is_ours(item):
            ours[name(item)] = item
    for item in kind(objects, "RabbitmqCluster"):
        peers[name(item)] = ("lote", {"app.kubernetes.io/name": name(item)})
    peers |= OUTSIDE_PODS
    # A pod of this namespace that no policy names: it reaches nobody, and nobody it.
    peers["stranger"] = ("lote", {})
    # Where each target of the table is: pods or an address, and on which ports (a name is the pod's own).
    targets = {}
    for process, item in ours.items():
        ports = {port["name"]: port["containerPort"] for port in item["spec"]["template"]["spec"]["containers"][0].get("ports", [])}
        targets[process] = [(process, port, port_name) for port_name, port in ports.items()]
    targets["rabbitmq"] = [("rabbitmq", port, None) for port in (5672, 15672, 15692)]
    for server, (inside, outside) in SERVERS.items():
        place, port = inside if in_cluster and inside[0] else outside
        targets[server] = [(place, port, None)]
    targets["stranger"] = [("stranger", 80, None)]
    sources_ = {**{one: peers[one] for one in ours}, **OUTSIDE_PODS, "stranger": peers["stranger"]}
    out, into = set(), set()
    for source, (namespace, found) in sources_.items():
        for target, places in targets.items():
            if target == source:
                continue
            for place, port, port_name in places:
                to_namespace, to = peers.get(place, (None, place))
                if namespace == "lote" and opened(objects, "Egress", found, to_namespace, to, port, port_name):
                    out.add((source, target))
                # Other namespaces' own policies are not ours.
                if to_namespace == "lote" and opened(objects, "Ingress", to, namespace, found, port, port_name):
                    into.add((source, target))
    return out, into


def opened(objects, direction, mine, peer_namespace, peer, port, port_name):
    """Whether the policies of the pods with the labels `mine` let it talk to the peer, or the peer to it: a pod by its labels,
    or an address. Without a policy everything is open."""
    key = {"Egress": "to", "Ingress": "from"}[direction]

    def peers_fit(rule):
        if key not in rule:
            return True
        for one in rule[key]:
            if isinstance(peer, str):
                if "ipBlock" in one and inside(peer, one["ipBlock"]):
                    return True
            elif "ipBlock" not in one:
                spaces = one.get("namespaceSelector")
                there = {"kubernetes.io/metadata.name": peer_namespace}
                fits = matches(spaces, there) if spaces is not None else peer_namespace == "lote"
                if fits and matches(one.get("podSelector", {}), peer):
                    return True
        return False

    def ports_fit(rule):
        return "ports" not in rule or any(
            one["port"] in (port, port_name) and one.get("protocol", "TCP") == "TCP" for one in rule["ports"])

    of_mine = [item["spec"] for item in kind(objects, "NetworkPolicy")
               if direction in item["spec"]["policyTypes"] and matches(item["spec"]["podSelector"], mine)]
    return not of_mine or any(
        peers_fit(rule) and ports_fit(rule) for spec in of_mine for rule in spec.get(direction.lower(), []))


def inside(address, block):
    import ipaddress
    one = ipaddress.ip_address(address)
    return one in ipaddress.ip_network(block["cidr"]) and not any(one in ipaddress.ip_network(part) for part in block.get("except", []))


def flows_are_the_tables(objects):
    wanted, (out, into) = sources.flows(), network(objects)
    in_cluster = any(name(item) == "postgresql" for item in kind(objects, "StatefulSet"))
    # A policy knows pods and addresses, not names: who may reach one server at a place may reach all there. S3 and SQS are one
    # server on a laptop; on AWS, all that speak TLS on the internet are.
    place = {server: here if in_cluster and here[0] else outside for server, (here, outside) in SERVERS.items()}
    for side in (out, into):
        for source, target in side - wanted:
            if any((source, other) in wanted and place[other] == place.get(target) for other in place):
                side.discard((source, target))
    wrong = [f"{one} → {to} is open, and not in ARCHITECTURE's table" for one, to in sorted((out | into) - wanted)]
    for one, to in sorted(wanted):
        ours = {"talks": one not in OUTSIDE_PODS, "listens": to not in place or (in_cluster and place[to][0] != INTERNET)}
        if (ours["talks"] and (one, to) not in out) or (ours["listens"] and (one, to) not in into):
            wrong.append(f"{one} → {to} is in ARCHITECTURE's table, and closed")
    return wrong


# --- what is set in several places --------------------------------------------------------------------------------


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
