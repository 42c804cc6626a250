"""What processes run, how they are bounded, probed and ended, and that names lead somewhere."""

import sources

from .environment import environment_of, secret_keys
from .objects import MI, WRITES_ITS_ROOT, amount, containers, is_ours, kind, labels, matches, name, pods, role_of, title


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
            if paths != {"readinessProbe": "/health/serving", "livenessProbe": "/health/live"}:
                wrong.append(f"{title(item)}: a database that is down would take it out, or restart it: {paths}")
    return wrong


def pods_end_in_their_own_time(objects):
    wrong = []
    for item, template in pods(objects):
        if not is_ours(item) or item["kind"] != "Deployment":
            continue
        environment, _ = environment_of(objects, item)
        lame, drain = (int(environment.get(key, 0)) for key in ("HTTP_LAME_DUCK_SECONDS", "HTTP_DRAIN_SECONDS"))
        # Handlers end beside requests; jobs that do not stop at a batch are dropped after ten seconds.
        needed = max(lame + drain, sources.event_deadline() + 10)
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        if drain < 90:
            wrong.append(f"{title(item)} cuts uploads after {drain} s")
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
