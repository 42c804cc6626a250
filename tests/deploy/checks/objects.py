"""The objects of an overlay: how they are found and read."""

import re

OURS = ("api", "worker", "migrate")
# Images that can't run without writing to their root, and why.
WRITES_ITS_ROOT = {"localstack": "it unpacks its services below /usr and /opt"}
MI = 1024 * 1024


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
