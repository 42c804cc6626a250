"""The linters of others' making, and that each of them sees something."""

import re
import stat
import subprocess

import pytest
import yaml

import sources
from rendering import BIN, overlay, run
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
    ("rules", "always.yml", "process=\"etl-worker\"", "process=etl-worker"),
])
def test_promtool(tmp_path, what, file, good, bad):
    source = sources.text(f"deploy/prometheus/{file}")
    place = tmp_path / file
    place.write_text(source.replace("/etc/prometheus/", f"{ROOT}/deploy/prometheus/"))
    run("promtool", "check", what, place)
    assert good in source
    place.write_text(source.replace(good, bad))
    assert fails("promtool", "check", what, place)


def test_a_process_that_is_gone_wakes_somebody(tmp_path):
    # Each is missed where all others are there; where all are there, nobody is.
    processes = [process for process, _, _ in sources.processes()]
    cases = []
    for gone in [None, *processes]:
        there = [{"series": f'up{{job="lote", process="{one}", instance="{one}:9464"}}', "values": "1x10"}
                 for one in processes if one != gone]
        missed = [{"alert": "LoteProcessMissing"}, {"alert": "LoteWorkerMissing"}]
        for one in missed:
            worker = gone in ("catalog-upload-worker", "report-worker", "etl-worker")
            if gone and worker == (one["alert"] == "LoteWorkerMissing"):
                one["exp_alerts"] = [{"exp_labels": {"job": "lote", "process": gone, "severity": "page"},
                                      "exp_annotations": {"summary": f"there is no {gone}"}}]
        cases.append({"interval": "1m", "input_series": there,
                      "alert_rule_test": [{"eval_time": "5m", "alertname": one.pop("alert"), **one} for one in missed]})
    place = tmp_path / "test.yml"
    files = [str(ROOT / f"deploy/prometheus/{name}") for name in ("rules.yml", "always.yml")]
    place.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": cases}))
    run("promtool", "test", "rules", place)


def test_a_cluster_has_the_same_rules():
    (rule,) = [item for item in overlay("prod") if item["kind"] == "PrometheusRule"]
    assert rule["spec"]["groups"] == yaml.safe_load(sources.text("deploy/prometheus/rules.yml"))["groups"]
    (monitor,) = [item for item in overlay("prod") if item["kind"] == "PodMonitor"]
    asked = {(one.get("path", "/metrics"), *one.get("params", {}).get("family", [])) for one in monitor["spec"]["podMetricsEndpoints"]}
    config = yaml.safe_load(sources.text("deploy/prometheus/prometheus.yml"))
    jobs = [job for job in config["scrape_configs"] if job["job_name"].startswith("rabbitmq")]
    assert asked == {(job.get("metrics_path", "/metrics"), *job.get("params", {}).get("family", [])) for job in jobs}


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
