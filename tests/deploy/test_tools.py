"""The linters of others' making, and that each of them sees something."""

import re
import stat
import subprocess

import pytest

import sources
from rendering import BIN, run
from sources import ROOT

SCRIPTS = sorted(
    path.relative_to(ROOT) for pattern in ("deploy/*.sh", "deploy/*/*.sh", "bin/lote", ".ci/run") for path in ROOT.glob(pattern))


def fails(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    return done.returncode != 0


def test_hadolint(tmp_path):
    command = [BIN / "hadolint", "--config", "deploy/docker/hadolint.yaml"]
    run(*command, "deploy/docker/Dockerfile")
    broken = tmp_path / "Dockerfile"
    broken.write_text(sources.text("deploy/docker/Dockerfile").replace("USER 10001:10001\nWORKDIR /", "USER root\nWORKDIR src"))
    assert fails(*command, broken)


def test_shellcheck(tmp_path):
    assert len(SCRIPTS) >= 5, SCRIPTS
    run("shellcheck", *SCRIPTS)
    broken = tmp_path / "broken.sh"
    broken.write_text("#!/bin/bash\nrm -rf $1/*\n")
    assert fails("shellcheck", broken)


@pytest.mark.parametrize(("what", "file", "good", "bad"), [
    ("config", "prometheus.yml", "scrape_interval: 15s", "scrape_interval: often"),
    ("rules", "rules.yml", "up{job=\"lote\"} == 0", "up{job=lote} == 0"),
])
def test_promtool(tmp_path, what, file, good, bad):
    source = sources.text(f"deploy/prometheus/{file}")
    place = tmp_path / file
    place.write_text(source.replace("/etc/prometheus/rules.yml", str(ROOT / "deploy/prometheus/rules.yml")))
    run("promtool", "check", what, place)
    assert good in source
    place.write_text(source.replace(good, bad))
    assert fails("promtool", "check", what, place)


def test_alerts_name_metrics_that_the_code_has():
    known = {"up"}
    for path in list(ROOT.glob("crates/*/src/**/*.rs")) + list(ROOT.glob("services/*/src/**/*.rs")):
        known |= set(re.findall(r'"((?:lote|gateway|etl|http)_[a-z_]+)"', path.read_text()))
    used = set(re.findall(r"\b(?:lote|gateway|etl|http)_[a-z_]+", sources.text("deploy/prometheus/rules.yml")))
    assert len(used) >= 3 and used <= known, used - known


def test_secrets_are_made_once(tmp_path):
    env = tmp_path / ".env"
    env.write_text("ADMIN_PASSWORD=mine\nREDIS_PASSWORD=\nHTTPS_PORT=9443")
    run("deploy/secrets.sh", env)
    first = env.read_text()
    values = dict(line.split("=", 1) for line in first.splitlines())
    assert values["ADMIN_PASSWORD"] == "mine" and values["HTTPS_PORT"] == "9443"
    made = {key: value for key, value in values.items() if key not in ("ADMIN_PASSWORD", "HTTPS_PORT")}
    assert all(is_secret(value) for value in made.values()), made
    assert len(set(made.values())) == len(made), "two secrets are one"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    run("deploy/secrets.sh", env)
    assert env.read_text() == first
    # All that compose asks for with `:?`.
    asked = set(re.findall(r"\$\{(\w+):\?", sources.text("docker-compose.yml")))
    assert asked and asked <= set(values), asked - set(values)


def is_secret(text):
    return len(text) == 48 and all(character in "0123456789abcdef" for character in text)
