"""Every object against its schema, strictly: Kubernetes' own by its published schemas of two versions, custom resources by
their types, compiled with TypeScript. A kind that nobody knows fails, unless it is named here."""

import json
import re
import subprocess

import kubernetes_validate
import pytest

from rendering import BIN, OVERLAYS, overlay
from sources import ROOT

VERSIONS = ("1.30", "1.37")
TYPES = {
    "keda.sh": "@kubernetes-models/keda",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
    "external-secrets.io": "@kubernetes-models/external-secrets",
}
# Of these no registry that is reached here has a schema.
UNCHECKED = {("rabbitmq.com/v1beta1", "RabbitmqCluster")}
MODULES = ROOT / ".stack/deploy/node_modules"


def group(item):
    return item["apiVersion"].rpartition("/")[0]


def is_custom(item):
    return "." in group(item) and not group(item).endswith(".k8s.io") or (item["apiVersion"], item["kind"]) in UNCHECKED


def problems_of_kubernetes(objects, version):
    found = []
    for item in objects:
        if is_custom(item):
            continue
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            why = (str(error) or "no such kind").splitlines()[0]
            found.append(f"{item['kind']}/{item['metadata']['name']}: {why}")
    return found


def problems_of_custom(objects, folder):
    """Compiles the objects as constants of their types: what a type does not have, or lacks, is an error."""
    lines, found = [], []
    for number, item in enumerate(objects):
        if not is_custom(item) or (item["apiVersion"], item["kind"]) in UNCHECKED:
            continue
        package = TYPES.get(group(item))
        module = f"{package}/{item['apiVersion']}/{item['kind']}"
        if package is None or not (MODULES / f"{module}.d.ts").exists():
            found.append(f"{item['kind']}/{item['metadata']['name']}: nobody knows {item['apiVersion']}")
            continue
        title = f"{item['kind']}/{item['metadata']['name']}"
        lines.append(f'import {{ I{item["kind"]} as T{number} }} from "{module}"; // {title}')
        lines.append(f"export const o{number}: T{number} = {json.dumps(item)}; // {title}")
    (folder / "objects.mts").write_text("\n".join(lines) + "\n")
    (folder / "node_modules").symlink_to(MODULES)
    done = subprocess.run(
        ["node", MODULES / "typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext",
         "--moduleResolution", "nodenext", "objects.mts"], cwd=folder, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        place = re.match(r"objects\.mts\((\d+),", line)
        found.append(f"{lines[int(place[1]) - 1].rsplit('// ', 1)[1]}: {line}" if place else line)
    return found


def all_objects():
    """Those of all overlays, once each: most are in several."""
    return list({json.dumps(item, sort_keys=True): item for where in OVERLAYS for item in overlay(where)}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_objects_fit(version):
    assert problems_of_kubernetes(all_objects(), version) == []


def test_custom_objects_fit(tmp_path):
    assert problems_of_custom(all_objects(), tmp_path) == []


def one(objects, kind):
    return next(item for item in objects if item["kind"] == kind)


def test_sees_what_kubernetes_does_not_have():
    objects = [one(overlay("prod"), kind) for kind in ("Deployment", "Service")]
    one(objects, "Deployment")["spec"]["template"]["spec"]["gracePeriod"] = 5
    one(objects, "Service")["spec"]["ports"][0]["port"] = "http"
    objects.append({"apiVersion": "apps/v2", "kind": "Deployment", "metadata": {"name": "new"}})
    objects.append({"apiVersion": "v1", "kind": "Pot", "metadata": {"name": "tea"}})
    for version in VERSIONS:
        assert len(problems_of_kubernetes(objects, version)) == 4


def test_sees_what_custom_types_do_not_have(tmp_path):
    objects = [item for item in overlay("prod") if is_custom(item)]
    one(objects, "ScaledObject")["spec"]["coolDownPeriod"] = 5
    one(objects, "TriggerAuthentication")["spec"]["podIdentity"] = {"roleArn": "arn"}
    del one(objects, "ServiceMonitor")["spec"]["endpoints"]
    one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["prot"] = "prometheus"
    one(objects, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["expression"] = "up"
    one(objects, "ExternalSecret")["spec"]["refreshInterval"] = 3600
    one(objects, "SecretStore")["apiVersion"] = "external-secrets.io/v9"
    objects.append({"apiVersion": "example.com/v1", "kind": "Strange", "metadata": {"name": "strange"}})
    found = problems_of_custom(objects, tmp_path)
    for kind in ("ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ExternalSecret", "SecretStore", "Strange"):
        assert any(line.startswith(kind + "/") for line in found), (kind, found)
