"""Who follows which queue, and what the database bears."""

import re
from urllib.parse import urlsplit

import sources

from .environment import environment_of
from .objects import containers, is_ours, kind, labels, name, pods, title


# How many handlers of a queue a pod has: a setting's default, or the number that the job's file names.
HANDLERS = {
    "catalog.imports": "IMPORT_CONCURRENCY",
    "catalog.reports": "IMPORT_CONCURRENCY",
    "report.events": "REPORT_INGEST_CONCURRENCY",
    "report.runs": "services/report/src/jobs/start_run.rs",
    "report.campaigns": "REPORT_CONCURRENCY",
    "etl.runs": "ETL_CONCURRENCY",
    "etl.webhooks": "services/etl/src/jobs/refetch_resource.rs",
    "sms.audiences": "services/sms-dispatch/src/jobs/prepare_campaign.rs",
    # These name no number: JobKind::new's.
    "sms.imports": "crates/jobs/src/kind.rs",
    "sms.validations": "crates/jobs/src/kind.rs",
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
    return wrong


def triggers_ask_where_keda_can_reach(objects):
    """KEDA asks from a namespace of its own: a host's name says ours, or is one of AWS. RabbitMQ's ends with its virtual host."""
    wrong = []
    for item in kind(objects, "ScaledObject"):
        namespace = item["metadata"]["namespace"]
        for trigger in item["spec"]["triggers"]:
            metadata = trigger["metadata"]
            addresses = [metadata[key] for key in ("host", "queueURL", "awsEndpoint") if key in metadata]
            if not addresses:
                wrong.append(f"{title(item)}: a trigger without an address")
            for address in addresses:
                host = urlsplit(address).hostname or ""
                if not host.endswith((f".{namespace}.svc", ".amazonaws.com")):
                    wrong.append(f"{title(item)}: KEDA can't resolve {address}")
            if trigger["type"] == "rabbitmq" and urlsplit(addresses[0] if addresses else "").path != "/":
                wrong.append(f"{title(item)}: {addresses} has no virtual host: it must end in /")
    return wrong


# What a worker alone spawns because of messages that it has, or to say that it is there.
QUEUES_BRING = {"consumer of events", "announcer", "requests under way"}


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
        # What begins by the clock, and fills no queue that would start a worker, must not end with the last one.
        alone = only_in_worker(labels(item)["app.kubernetes.io/name"])
        least = 1 if set(re.findall(r'\.spawn\("([^"]+)"', alone)) - QUEUES_BRING else 0
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
    """All pods at their most, each beside the one that it replaces and that still drains, and all migrations at once."""
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
        # A pod that is ending is no replica any more, and has its connections until it ends.
        total += 2 * pool * scaled.get(name(item), item["spec"].get("replicas", 1))
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
