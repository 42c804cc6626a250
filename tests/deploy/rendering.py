"""What the real tools make of the manifests: kustomize's objects of an overlay, Compose's model with profiles."""

import functools
import json
import os
import pathlib
import subprocess
import tempfile

import yaml

from sources import ROOT

BIN = ROOT / ".stack/deploy/bin"
OVERLAYS = ("dev", "staging", "prod")
# The overlays that run on AWS, with what must stay secret outside of them.
REAL = ("staging", "prod")


def run(*command, **options):
    """The standard output of a program that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def overlay_text(name):
    return run(BIN / "kubectl", "kustomize", f"k8s/overlays/{name}")


def overlay(name):
    """Fresh objects each time: tests break them."""
    return list(yaml.load_all(overlay_text(name), Loader=yaml.CSafeLoader))


@functools.cache
def compose_text(profiles=()):
    with tempfile.TemporaryDirectory() as folder:
        env = pathlib.Path(folder) / "env"
        run("deploy/secrets.sh", env)
        chosen = [part for profile in profiles for part in ("--profile", profile)]
        command = [BIN / "docker-compose", "--env-file", env, *chosen, "config", "--format", "json"]
        # Nothing of this machine's environment in it.
        return run(*command, env={"PATH": os.environ["PATH"], "HOME": folder})


def compose(*profiles):
    return json.loads(compose_text(profiles))
