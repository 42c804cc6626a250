"""docker-compose.yml as Compose reads it, for every profile; and each check on a broken copy."""

import ipaddress
import re

import pytest
import yaml

import checks
import sources
from rendering import compose

PROFILES = [(), ("observability",), ("scale",), ("observability", "scale")]


def services(model):
    return model["services"].items()


def is_ours(service):
    return service["image"].startswith("lote/") and "simulators" not in service["image"]


def role_of(service):
    return re.match(r"lote/([a-z-]+):", service["image"])[1], (service.get("command") or [None])[0]


# --- checks -------------------------------------------------------------------------------------------------------


def every_role_is_there(model):
    wanted = {process: (service, role) for process, service, role in sources.processes()}
    wanted |= {f"migrate-{service}": (service, "migrate") for service in sources.services()}
    found = {name: role_of(service) for name, service in services(model) if is_ours(service)}
    wrong = [f"{name} is missing, or runs {found.get(name)}" for name, what in wanted.items() if found.get(name) != what]
    # The profile `scale` doubles each role, and nothing else.
    seconds = {name: what for name, what in found.items() if name not in wanted}
    wrong += [f"{name} is nobody's second" for name, what in seconds.items()
              if not name.endswith("-2") or wanted.get(name.removesuffix("-2")) != what]
    if seconds and len(seconds) != len(list(sources.processes())):
        wrong.append(f"`scale` has {sorted(seconds)}, expected a second one of each role")
    return wrong


def traefik_alone_is_published(model):
    return [f"{name} publishes {service['ports']}" for name, service in services(model)
            if service.get("ports") and (name != "traefik" or len(service["ports"]) != 1)]


def containers_are_locked_down(model):
    wrong = []
    for name, service in services(model):
        if not service["image"].startswith(("lote/", "traefik")):
            continue
        if service.get("user") != "10001:10001":
            wrong.append(f"{name} is not 10001")
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or service.get("privileged"):
            wrong.append(f"{name} may write to its root, or has capabilities")
        if service.get("security_opt") != ["no-new-privileges:true"]:
            wrong.append(f"{name} may gain privileges")
    return wrong


# Images without a program that could ask, and jobs that end.
UNASKED = {"otel-collector", "jaeger"}


def all_are_asked_and_limited(model):
    wrong = []
    for name, service in services(model):
        check = service.get("healthcheck", {})
        if name.startswith("migrate-") or name in UNASKED:
            if not check.get("disable"):
                wrong.append(f"{name} is asked how it is, and can't answer")
        elif check.get("disable") or not check.get("test"):
            wrong.append(f"{name} has no health check")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not limits.get("memory") or not limits.get("cpus"):
            wrong.append(f"{name} has no limits")
    return wrong


def memory_comes_from_peaks(model):
    wrong = []
    for process, figure in checks.PEAKS.items():
        limit = int(model["services"][process]["deploy"]["resources"]["limits"]["memory"])
        if limit < 2 * 1.2 * sources.measured_megabytes(figure) * 1_000_000:
            wrong.append(f"{process}: {limit} bytes are too few for two jobs at their peak")
    return wrong


def who_needs_a_schema_waits_for_it(model):
    wrong = []
    for name, service in services(model):
        needs = service.get("depends_on", {})
        if is_ours(service) and not name.startswith("migrate-"):
            own, _ = role_of(service)
            if needs.get(f"migrate-{own}", {}).get("condition") != "service_completed_successfully":
                wrong.append(f"{name} does not wait for its migration")
        for other, need in needs.items():
            healthy = model["services"][other].get("healthcheck", {})
            if need["condition"] == "service_healthy" and healthy.get("disable"):
                wrong.append(f"{name} waits for the health of {other}, which has none")
            if need["condition"] == "service_started":
                wrong.append(f"{name} does not wait until {other} can be used")
    return wrong


def environments_are_what_the_code_reads(model):
    wrong = []
    for name, service in services(model):
        if is_ours(service):
            environment = {key: value or "" for key, value in service["environment"].items()}
            wrong += checks.wrong_names(name, environment, *role_of(service))
    return wrong


def addresses_lead_somewhere(model):
    """Each URL in an environment is of a service of this file, by its name or alias. Two come with a profile, and one is
    what people open."""
    names = {alias for name, service in services(model)
             for alias in [name, *(a for net in service["networks"].values() for a in (net or {}).get("aliases", []))]}
    wrong = []
    for name, service in services(model):
        for key, value in (service.get("environment") or {}).items():
            url = re.match(r"[a-z+]+://(?:[^@/]*@)?([a-z0-9.-]+)", value or "")
            if url and key != "S3_PUBLIC_ENDPOINT_URL" and url[1] not in names | {"otel-collector", "grafana"}:
                wrong.append(f"{name}: {key} leads to {url[1]}, which there is not")
    return wrong


def second_processes_answer_to_the_first_ones_name(model):
    wrong = []
    for name, service in services(model):
        first = name.removesuffix("-2")
        if first != name and first not in service["networks"]["backend"]["aliases"]:
            wrong.append(f"{name} does not answer to {first}: nobody calls it, and Prometheus does not ask it")
    return wrong


def pools_fit(model):
    total = 13 + sum(
        2 if name.startswith("migrate-") else int(service["environment"]["DATABASE_MAX_CONNECTIONS"])
        for name, service in services(model) if is_ours(service))
    most = int(re.search(r"max_connections=(\d+)", " ".join(model["services"]["postgres"]["command"]))[1])
    return [] if total <= most else [f"{total} connections at most, and PostgreSQL takes {most}"]


def images_have_versions(model):
    return [f"{name} runs {service['image']}" for name, service in services(model)
            if not re.search(r":[\w.-]+$", service["image"]) or service["image"].endswith(":latest")]


def the_gateway_trusts_traefik_alone(model):
    address = model["services"]["traefik"]["networks"]["edge"]["ipv4_address"]
    subnet = model["networks"]["edge"]["ipam"]["config"][0]["subnet"]
    if list(model["services"]["traefik"]["networks"]) != ["edge"]:
        return ["Traefik could come by another network, from another address"]
    wrong = [] if ipaddress.ip_address(address) in ipaddress.ip_network(subnet) else [f"{address} is not in {subnet}"]
    for name, service in services(model):
        if is_ours(service) and role_of(service) == ("gateway", "api"):
            trusted = service["environment"].get("TRUSTED_PROXIES")
            if trusted != address:
                wrong.append(f"{name} trusts {trusted}, and Traefik is {address}")
    return wrong


def there_is_time_to_drain(model):
    wrong = []
    for name, service in services(model):
        if not is_ours(service) or name.startswith("migrate-"):
            continue
        grace = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", service["stop_grace_period"])
        seconds = int(grace[1] or 0) * 60 + int(grace[2] or 0)
        lame = int(service["environment"]["HTTP_LAME_DUCK_SECONDS"])
        drain = int(service["environment"].get("HTTP_DRAIN_SECONDS", 20))
        if seconds <= max(lame + drain, sources.event_deadline() + 10):
            wrong.append(f"{name} is killed after {seconds} s")
        if drain < 90:
            wrong.append(f"{name} cuts uploads after {drain} s")
    return wrong


def servers_have_what_they_must(model):
    def mounts(name):
        return {volume.get("source", "").removeprefix(str(sources.ROOT) + "/"): volume["target"]
                for volume in model["services"][name]["volumes"]}
    wrong = []
    if mounts("rabbitmq").get("deploy/rabbitmq/lote.conf") != "/etc/rabbitmq/conf.d/20-lote.conf":
        wrong.append("RabbitMQ has no consumer_timeout")
    found = mounts("localstack")
    if found.get("localstack/init/ready.d") != "/etc/localstack/init/ready.d" or found.get("deploy/aws") != "/etc/deploy/aws":
        wrong.append("LocalStack does not run the native stack's ready.d")
    for name, target in (("postgres", "/var/lib/postgresql/data"), ("rabbitmq", "/var/lib/rabbitmq"), ("mariadb", "/var/lib/mysql")):
        if not any(v["type"] == "volume" and v.get("source") and v["target"] == target for v in model["services"][name]["volumes"]):
            wrong.append(f"{name} keeps nothing")
    return wrong


CHECKS = [every_role_is_there, traefik_alone_is_published, containers_are_locked_down, all_are_asked_and_limited,
          memory_comes_from_peaks, who_needs_a_schema_waits_for_it, environments_are_what_the_code_reads,
          addresses_lead_somewhere, second_processes_answer_to_the_first_ones_name, pools_fit, images_have_versions, the_gateway_trusts_traefik_alone, there_is_time_to_drain,
          servers_have_what_they_must]


@pytest.mark.parametrize("profiles", PROFILES, ids=lambda profiles: "+".join(profiles) or "none")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_holds(check, profiles):
    assert check(compose(*profiles)) == []


def test_profiles_add_what_they_are_called():
    plain, scale = (set(compose(*profiles)["services"]) for profiles in ((), ("scale",)))
    assert scale - plain == {f"{process}-2" for process, _, _ in sources.processes()}
    observed = set(compose("observability")["services"]) - plain
    assert observed == {"prometheus", "alertmanager", "postgres-exporter", "redis-exporter", "otel-collector", "jaeger", "grafana"}


# --- broken copies ------------------------------------------------------------------------------------------------


def at(*path):
    def find(model):
        for part in path:
            model = model[part]
        return model
    return find


def put(where, key, value):
    def breaks(model):
        where(model)[key] = value
    return breaks


def drop(where, key):
    def breaks(model):
        del where(model)[key]
    return breaks


def of(name, *path):
    return at("services", name, *path)


BROKEN = [
    (every_role_is_there, drop(at("services"), "etl-worker")),
    (every_role_is_there, drop(at("services"), "migrate-report")),
    (every_role_is_there, drop(at("services"), "report-worker-2")),
    (every_role_is_there, put(of("report-worker"), "command", ["api"])),
    (traefik_alone_is_published, put(of("postgres"), "ports", [{"target": 5432}])),
    (containers_are_locked_down, put(of("gateway"), "user", "0:0")),
    (containers_are_locked_down, put(of("gateway"), "read_only", False)),
    (containers_are_locked_down, put(of("traefik"), "cap_drop", [])),
    (containers_are_locked_down, put(of("etl-api"), "security_opt", [])),
    (all_are_asked_and_limited, put(of("gateway"), "healthcheck", {"disable": True})),
    (all_are_asked_and_limited, drop(of("grafana"), "healthcheck")),
    (all_are_asked_and_limited, drop(of("redis", "deploy", "resources", "limits"), "memory")),
    (memory_comes_from_peaks, put(of("catalog-upload-worker", "deploy", "resources", "limits"), "memory", str(512 << 20))),
    (who_needs_a_schema_waits_for_it, put(of("report-api", "depends_on", "migrate-report"), "condition", "service_started")),
    (who_needs_a_schema_waits_for_it, drop(of("report-worker", "depends_on"), "migrate-report")),
    (who_needs_a_schema_waits_for_it, put(of("postgres"), "healthcheck", {"disable": True})),
    (environments_are_what_the_code_reads, put(of("etl-api", "environment"), "BSALE_URL", "x")),
    (environments_are_what_the_code_reads, drop(of("etl-worker", "environment"), "SALES_DATABASE_URL")),
    (environments_are_what_the_code_reads, put(of("gateway", "environment"), "KEY_ENCRYPTION_SECRET", None)),
    (addresses_lead_somewhere, put(of("gateway", "environment"), "ETL_URL", "http://etl:3004")),
    (second_processes_answer_to_the_first_ones_name, put(of("report-worker-2", "networks", "backend"), "aliases", [])),
    (pools_fit, put(of("report-worker", "environment"), "DATABASE_MAX_CONNECTIONS", "200")),
    (images_have_versions, put(of("redis"), "image", "redis")),
    (the_gateway_trusts_traefik_alone, put(of("gateway", "environment"), "TRUSTED_PROXIES", "0.0.0.0/0")),
    (the_gateway_trusts_traefik_alone, put(of("traefik", "networks", "edge"), "ipv4_address", "10.9.9.9")),
    (the_gateway_trusts_traefik_alone, put(of("traefik", "networks"), "backend", None)),
    (there_is_time_to_drain, put(of("report-worker"), "stop_grace_period", "1m30s")),
    (there_is_time_to_drain, drop(of("gateway", "environment"), "HTTP_DRAIN_SECONDS")),
    (servers_have_what_they_must, put(of("rabbitmq"), "volumes", [])),
    (servers_have_what_they_must, put(of("localstack"), "volumes", [])),
]


@pytest.mark.parametrize(("check", "breaks"), BROKEN, ids=[f"{check.__name__}-{n}" for n, (check, _) in enumerate(BROKEN)])
def test_sees(check, breaks):
    model = compose("observability", "scale")
    breaks(model)
    assert check(model) != []


def test_each_check_is_seen_failing():
    assert {check for check, _ in BROKEN} == set(CHECKS)


# --- what is beside it --------------------------------------------------------------------------------------------


def test_the_images_are_those_of_the_dockerfile():
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", sources.text("deploy/docker/Dockerfile"), re.M))
    assert set(sources.services()) | {"simulators"} <= targets
    for name, service in services(compose()):
        if service["image"].startswith("lote/") and "build" in service:
            assert service["build"]["target"] in targets, name


def test_pg_dump_is_of_the_servers_major():
    server = re.search(r"postgres:(\d+)", compose()["services"]["postgres"]["image"])[1]
    assert f"ARG POSTGRESQL={server}\n" in sources.text("deploy/docker/Dockerfile")


def test_prometheus_asks_every_process():
    config = yaml.safe_load(sources.text("deploy/prometheus/prometheus.yml"))
    (lote,) = [job for job in config["scrape_configs"] if job["job_name"] == "lote"]
    assert sorted(lote["dns_sd_configs"][0]["names"]) == sorted(process for process, _, _ in sources.processes())
    assert lote["dns_sd_configs"][0]["port"] == 9464


def test_no_secret_is_in_the_file():
    # Whatever could open something comes from .env, or is LocalStack's, which takes any.
    for line in sources.text("docker-compose.yml").splitlines():
        found = re.match(r"\s+(\w*(?:PASSWORD|SECRET|TOKEN|_KEY|_PASS))\w*: (.+)", line)
        if found and not found[1].startswith("AWS_"):
            assert "${" in found[2], line
        assert not re.search(r"://[^@\s$]+:[^@\s$]+@", line), line
