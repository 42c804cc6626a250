"""The objects of each overlay, checked; and each check on a copy that is broken in the way it is there for."""

import copy

import pytest

import checks
from checks import kind, name
from rendering import OVERLAYS, REAL, overlay

EVERYWHERE = [
    checks.every_service_has_its_rows,
    checks.roles_run_what_they_are_called,
    checks.pods_are_locked_down,
    checks.resources_come_from_peaks,
    checks.processes_are_probed,
    checks.pods_end_in_their_own_time,
    checks.selectors_match,
    checks.references_resolve,
    checks.triggers_watch_the_roles_queues,
    checks.triggers_count_what_is_in_hand,
    checks.triggers_ask_where_keda_can_reach,
    checks.nobody_is_scaled_away_on_a_guess,
    checks.pools_fit,
    checks.environments_are_what_the_code_reads,
    checks.ports_are_the_codes,
    checks.images_have_versions,
    checks.flows_are_the_tables,
    checks.consumer_timeout_is_one,
]
ON_AWS = [
    checks.no_secret_is_in_the_manifests,
    checks.there_are_two_of_what_people_wait_for,
    checks.images_are_fixed,
    checks.accounts_are_asked_for,
]
CASES = [(check, where) for check in EVERYWHERE for where in OVERLAYS]
CASES += [(check, where) for check in ON_AWS for where in REAL]


@pytest.mark.parametrize(("check", "where"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_holds(check, where):
    assert check(overlay(where)) == []


# --- broken copies ------------------------------------------------------------------------------------------------


def one(objects, of, called):
    (found,) = [item for item in kind(objects, of) if name(item) == called]
    return found


def pod(objects, called, of="Deployment"):
    return one(objects, of, called)["spec"]["template"]["spec"]


def container(objects, called, of="Deployment"):
    return pod(objects, called, of)["containers"][0]


def without(of, called):
    def breaks(objects):
        objects.remove(one(objects, of, called))
    return breaks


def changed(where, **values):
    """Sets values in what `where` finds; None takes the key away."""
    def breaks(objects):
        found = where(objects)
        for key, value in values.items():
            if value is None:
                del found[key]
            else:
                found[key] = value
    return breaks


def config_map(objects, prefix):
    (found,) = [item for item in kind(objects, "ConfigMap") if name(item).rsplit("-", 1)[0] == prefix]
    return found["data"]


def trigger(objects, called, index):
    return one(objects, "ScaledObject", called)["spec"]["triggers"][index]["metadata"]


def behavior(objects):
    return one(objects, "ScaledObject", "report-worker")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def append(where, value):
    return lambda objects: where(objects).append(copy.deepcopy(value))


BROKEN = [
    # A service that lacks a row.
    (checks.every_service_has_its_rows, "prod", without("Deployment", "report-worker")),
    (checks.every_service_has_its_rows, "prod", without("Job", "migrate-etl")),
    (checks.every_service_has_its_rows, "prod", without("ScaledObject", "etl-worker")),
    (checks.every_service_has_its_rows, "dev", without("ServiceMonitor", "gateway")),
    (checks.every_service_has_its_rows, "dev", without("PodDisruptionBudget", "etl-api")),
    (checks.roles_run_what_they_are_called, "prod", changed(lambda o: container(o, "report-worker"), args=["api"])),
    (checks.roles_run_what_they_are_called, "prod", changed(lambda o: container(o, "etl-api"), image="r/lote/report:1")),
    # What a pod may do.
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway")["securityContext"], runAsNonRoot=False)),
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway")["securityContext"], runAsUser=0)),
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway")["securityContext"], runAsUser=1000)),
    (checks.pods_are_locked_down, "dev", changed(lambda o: pod(o, "redis", "StatefulSet")["securityContext"], seccompProfile=None)),
    (checks.pods_are_locked_down, "prod",
     changed(lambda o: container(o, "etl-api")["securityContext"], readOnlyRootFilesystem=False)),
    (checks.pods_are_locked_down, "prod",
     changed(lambda o: container(o, "migrate-etl", "Job")["securityContext"], allowPrivilegeEscalation=True)),
    (checks.pods_are_locked_down, "dev",
     changed(lambda o: container(o, "redis", "StatefulSet")["securityContext"], capabilities={"drop": ["NET_RAW"]})),
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway"), automountServiceAccountToken=True)),
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway"), enableServiceLinks=None)),
    (checks.pods_are_locked_down, "prod", changed(lambda o: pod(o, "gateway"), hostNetwork=True)),
    (checks.pods_are_locked_down, "prod",
     append(lambda o: pod(o, "gateway")["volumes"], {"name": "host", "hostPath": {"path": "/"}})),
    # Memory.
    (checks.resources_come_from_peaks, "prod", changed(lambda o: container(o, "etl-api")["resources"]["limits"], cpu=None)),
    (checks.resources_come_from_peaks, "prod", changed(lambda o: container(o, "etl-api")["resources"], requests=None)),
    (checks.resources_come_from_peaks, "prod",
     changed(lambda o: container(o, "catalog-upload-worker")["resources"]["limits"], memory="512Mi")),
    (checks.resources_come_from_peaks, "prod",
     changed(lambda o: container(o, "catalog-upload-worker")["resources"]["requests"], memory="200Mi")),
    (checks.resources_come_from_peaks, "prod", changed(lambda o: container(o, "gateway")["resources"]["requests"], memory="1Gi")),
    # Probes and ends.
    (checks.processes_are_probed, "prod", changed(lambda o: container(o, "gateway"), readinessProbe=None)),
    (checks.processes_are_probed, "prod", changed(lambda o: container(o, "report-worker"), startupProbe=None)),
    (checks.processes_are_probed, "dev", changed(lambda o: container(o, "redis", "StatefulSet"), livenessProbe=None)),
    (checks.processes_are_probed, "prod",
     changed(lambda o: container(o, "gateway")["livenessProbe"]["httpGet"], path="/health/ready")),
    (checks.processes_are_probed, "prod", changed(lambda o: container(o, "gateway")["readinessProbe"]["httpGet"], port="admin")),
    (checks.pods_end_in_their_own_time, "prod", changed(lambda o: pod(o, "report-worker"), terminationGracePeriodSeconds=90)),
    (checks.pods_end_in_their_own_time, "prod", changed(lambda o: pod(o, "gateway"), terminationGracePeriodSeconds=None)),
    (checks.pods_end_in_their_own_time, "prod", changed(lambda o: config_map(o, "lote"), HTTP_LAME_DUCK_SECONDS="0")),
    (checks.pods_end_in_their_own_time, "prod", changed(lambda o: config_map(o, "lote"), HTTP_DRAIN_SECONDS="20")),
    (checks.pods_end_in_their_own_time, "prod",
     changed(lambda o: one(o, "Deployment", "gateway")["spec"]["strategy"]["rollingUpdate"], maxUnavailable=1)),
    (checks.there_are_two_of_what_people_wait_for, "prod",
     changed(lambda o: one(o, "Deployment", "report-api")["spec"], replicas=1)),
    (checks.there_are_two_of_what_people_wait_for, "prod",
     changed(lambda o: one(o, "Deployment", "report-worker")["spec"], replicas=1)),
    # Selectors and references.
    (checks.selectors_match, "prod", changed(
        lambda o: one(o, "Service", "report-api")["spec"]["selector"], **{"app.kubernetes.io/component": "app"})),
    (checks.selectors_match, "prod", changed(lambda o: one(o, "Service", "report-api")["spec"]["ports"][0], targetPort="web")),
    (checks.selectors_match, "prod", changed(
        lambda o: one(o, "PodDisruptionBudget", "etl-api")["spec"]["selector"]["matchLabels"], **{"app.kubernetes.io/component": None})),
    (checks.selectors_match, "prod", changed(
        lambda o: one(o, "NetworkPolicy", "to-redis")["spec"]["podSelector"], matchLabels={"to-redis": "true"})),
    (checks.selectors_match, "prod", changed(
        lambda o: one(o, "Deployment", "report-api")["spec"]["selector"]["matchLabels"], **{"app.kubernetes.io/component": None})),
    (checks.selectors_match, "prod", changed(lambda o: one(o, "ScaledObject", "etl-worker")["spec"]["scaleTargetRef"], name="etl")),
    (checks.selectors_match, "prod", changed(lambda o: one(o, "ServiceMonitor", "etl")["spec"]["endpoints"][0], port="http")),
    (checks.selectors_match, "prod", changed(
        lambda o: one(o, "Ingress", "lote")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"], name="web")),
    (checks.references_resolve, "prod", without("ExternalSecret", "report")),
    (checks.references_resolve, "prod", without("ExternalSecret", "rabbitmq-default-user")),
    (checks.references_resolve, "prod", without("ServiceAccount", "report")),
    (checks.references_resolve, "prod", without("TriggerAuthentication", "sqs")),
    (checks.references_resolve, "prod", without("SecretStore", "lote")),
    (checks.references_resolve, "dev", changed(
        lambda o: one(o, "TriggerAuthentication", "rabbitmq-management")["spec"]["secretTargetRef"][0], key="url")),
    (checks.references_resolve, "dev", changed(
        lambda o: [v for v in pod(o, "rabbitmq", "StatefulSet")["volumes"] if "configMap" in v][0]["configMap"], name="conf")),
    # Scaling.
    (checks.triggers_watch_the_roles_queues, "prod", changed(lambda o: trigger(o, "report-worker", 0), queueName="report.event")),
    (checks.triggers_watch_the_roles_queues, "prod", changed(lambda o: trigger(o, "report-worker", 2), value="5")),
    (checks.triggers_watch_the_roles_queues, "prod", changed(lambda o: trigger(o, "catalog-upload-worker", 0), queueLength="5")),
    (checks.triggers_watch_the_roles_queues, "prod", changed(
        lambda o: trigger(o, "catalog-upload-worker", 0), queueURL="https://sqs.us-east-1.amazonaws.com/1/imports")),
    (checks.triggers_watch_the_roles_queues, "prod",
     lambda o: one(o, "ScaledObject", "etl-worker")["spec"]["triggers"].pop()),
    (checks.triggers_count_what_is_in_hand, "prod", changed(lambda o: trigger(o, "etl-worker", 0), protocol="amqp")),
    (checks.triggers_count_what_is_in_hand, "prod", changed(lambda o: trigger(o, "etl-worker", 0), activationValue="5")),
    (checks.triggers_count_what_is_in_hand, "prod", changed(lambda o: trigger(o, "catalog-upload-worker", 0), scaleOnInFlight="false")),
    (checks.triggers_ask_where_keda_can_reach, "prod", changed(lambda o: trigger(o, "etl-worker", 0), host="http://rabbitmq:15672/")),
    (checks.triggers_ask_where_keda_can_reach, "prod",
     changed(lambda o: trigger(o, "etl-worker", 0), host="http://rabbitmq.lote.svc:15672")),
    (checks.triggers_ask_where_keda_can_reach, "prod", changed(lambda o: trigger(o, "etl-worker", 0), host=None)),
    (checks.triggers_ask_where_keda_can_reach, "dev",
     changed(lambda o: trigger(o, "catalog-upload-worker", 0), awsEndpoint="http://localstack:4566")),
    (checks.nobody_is_scaled_away_on_a_guess, "prod",
     changed(lambda o: one(o, "ScaledObject", "report-worker")["spec"], cooldownPeriod=300)),
    (checks.nobody_is_scaled_away_on_a_guess, "prod", changed(lambda o: one(o, "ScaledObject", "report-worker")["spec"], fallback=None)),
    (checks.nobody_is_scaled_away_on_a_guess, "prod", changed(lambda o: behavior(o)["scaleDown"], stabilizationWindowSeconds=0)),
    (checks.nobody_is_scaled_away_on_a_guess, "prod",
     changed(lambda o: one(o, "ScaledObject", "etl-worker")["spec"], minReplicaCount=1)),
    (checks.nobody_is_scaled_away_on_a_guess, "prod",
     changed(lambda o: one(o, "ScaledObject", "sms-dispatch-worker")["spec"], minReplicaCount=0)),
    (checks.nobody_is_scaled_away_on_a_guess, "prod",
     changed(lambda o: one(o, "ScaledObject", "report-worker")["spec"], maxReplicaCount=None)),
    (checks.pools_fit, "prod", changed(lambda o: one(o, "ScaledObject", "report-worker")["spec"], maxReplicaCount=20)),
    (checks.pools_fit, "dev", changed(
        lambda o: container(o, "postgresql", "StatefulSet"), args=["postgres", "-c", "max_connections=100"])),
    (checks.pools_fit, "prod", changed(lambda o: container(o, "report-worker"), env=[{"name": "DATABASE_MAX_CONNECTIONS", "value": "64"}])),
    # The environment.
    (checks.environments_are_what_the_code_reads, "prod", changed(lambda o: config_map(o, "lote"), HTTP_DRAIN="20")),
    (checks.environments_are_what_the_code_reads, "prod", changed(lambda o: config_map(o, "gateway"), JWKS_URL="http://x")),
    (checks.environments_are_what_the_code_reads, "prod", changed(lambda o: config_map(o, "lote-service"), JWKS_URL=None)),
    (checks.environments_are_what_the_code_reads, "prod", changed(lambda o: config_map(o, "lote-log"), AMQP_URL="amqp://x")),
    (checks.environments_are_what_the_code_reads, "prod",
     lambda o: one(o, "ExternalSecret", "etl")["spec"]["data"].pop(0)),
    (checks.environments_are_what_the_code_reads, "dev", changed(lambda o: one(o, "Secret", "gateway")["data"], KEY_ENCRYPTION_SECRET="")),
    (checks.environments_are_what_the_code_reads, "prod", changed(lambda o: config_map(o, "sms-dispatch"), SMS_PUBLIC_URL=None)),
    (checks.environments_are_what_the_code_reads, "prod", lambda o: container(o, "etl-worker")["volumeMounts"].pop()),
    (checks.accounts_are_asked_for, "prod", changed(lambda o: config_map(o, "etl"), BIGQUERY_PROJECT_ID=None)),
    (checks.accounts_are_asked_for, "prod", lambda o: [container(o, "sms-dispatch-worker")["envFrom"].pop() for _ in range(2)]),
    (checks.ports_are_the_codes, "prod", changed(lambda o: config_map(o, "gateway"), ETL_URL="http://etl-api:3005")),
    (checks.ports_are_the_codes, "prod", changed(lambda o: config_map(o, "lote"), METRICS_PORT="9000")),
    (checks.ports_are_the_codes, "prod", changed(lambda o: container(o, "report-api")["ports"][1], containerPort=3003)),
    # Secrets and images.
    (checks.no_secret_is_in_the_manifests, "prod", append(
        lambda o: o, {"kind": "Secret", "metadata": {"name": "gateway"}, "data": {}})),
    (checks.no_secret_is_in_the_manifests, "prod", changed(lambda o: config_map(o, "gateway"), ADMIN_PASSWORD="x")),
    (checks.no_secret_is_in_the_manifests, "prod", changed(lambda o: config_map(o, "lote"), PROXY="http://u:p@proxy")),
    (checks.no_secret_is_in_the_manifests, "prod", append(
        lambda o: container(o, "etl-api")["env"], {"name": "BSALE_API_TOKEN", "value": "x"})),
    (checks.images_are_fixed, "prod", changed(lambda o: container(o, "etl-api"), image="r/lote/etl:1.2.3")),
    (checks.images_have_versions, "staging", changed(lambda o: container(o, "etl-api"), image="r/lote/etl")),
    (checks.images_have_versions, "dev", changed(lambda o: container(o, "redis", "StatefulSet"), image="redis:latest")),
    # The network.
    (checks.flows_are_the_tables, "prod", without("NetworkPolicy", "to-redis")),
    (checks.flows_are_the_tables, "prod", without("NetworkPolicy", "deny")),
    (checks.flows_are_the_tables, "prod", changed(lambda o: one(o, "NetworkPolicy", "to-dns")["spec"], egress=[{}])),
    (checks.flows_are_the_tables, "dev", changed(
        lambda o: one(o, "NetworkPolicy", "postgresql")["spec"]["ingress"][0], **{"from": [{"podSelector": {}}]})),
    (checks.flows_are_the_tables, "prod", without("NetworkPolicy", "etl-api")),
    (checks.flows_are_the_tables, "prod",
     changed(lambda o: one(o, "NetworkPolicy", "gateway-api")["spec"]["ingress"][0], ports=None)),
    (checks.flows_are_the_tables, "prod", changed(lambda o: one(o, "NetworkPolicy", "report")["spec"]["ingress"][0], ports=None)),
    (checks.flows_are_the_tables, "prod", changed(
        lambda o: one(o, "Deployment", "gateway")["spec"]["template"]["metadata"]["labels"], **{"to-s3": "yes"})),
    (checks.flows_are_the_tables, "prod", changed(
        lambda o: one(o, "NetworkPolicy", "report-api")["spec"]["ingress"][0], **{"from": [{"podSelector": {}}]})),
    (checks.flows_are_the_tables, "prod", changed(
        lambda o: one(o, "NetworkPolicy", "to-postgresql")["spec"]["egress"][0]["ports"][0], port=5433)),
    (checks.consumer_timeout_is_one, "prod", changed(
        lambda o: one(o, "RabbitmqCluster", "rabbitmq")["spec"]["rabbitmq"], additionalConfig="consumer_timeout = 1800000\n")),
    (checks.consumer_timeout_is_one, "dev", changed(lambda o: config_map(o, "rabbitmq-conf"), **{"20-lote.conf": "\n"})),
]


@pytest.mark.parametrize(("check", "where", "breaks"), BROKEN, ids=[f"{check.__name__}-{n}" for n, (check, *_) in enumerate(BROKEN)])
def test_sees(check, where, breaks):
    objects = overlay(where)
    breaks(objects)
    assert check(objects) != []


def test_each_check_is_seen_failing():
    assert {check for check, _ in CASES} == {check for check, *_ in BROKEN}
