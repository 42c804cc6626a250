"""Secrets and images."""

import re

from .objects import containers, kind, name, title


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
