"""deploy/deploy.sh with a kubectl that only writes down what it was told, and fails where a test wants it to."""

import os
import subprocess

import pytest

from rendering import overlay_text
from sources import ROOT

DEPLOYMENTS = ("gateway", "report-worker")
KUBECTL = r"""#!/usr/bin/env bash
# $LOG: a line a call. $FAIL: a call that matches it fails.
args="$*"
if [ "$1" = kustomize ]; then
    sed "s/sha256:0\{64\}/sha256:$DIGEST/" "$RENDERED/${2##*/}.yaml"
    exit 0
fi
args=${args#--context * --namespace lote }
echo "$args" >>"$LOG"
if [ -n "$FAIL" ] && [[ $args == $FAIL ]]; then
    exit 1
fi
case $args in
    "get job"*) printf 'migrate-etl\t%s\nmigrate-gateway\tComplete\n' "${JOB:-Complete}" ;;
    "get deployment"*"revision"*) printf 'gateway\t7\nreport-worker\t3\n' ;;
    "get deployment"*"name") printf 'deployment.apps/gateway\ndeployment.apps/report-worker\n' ;;
esac
"""
CURL = """#!/usr/bin/env bash
for url; do :; done
path=/${url#*://*/}
case $path in
    "$BROKEN") echo 502 ;;
    /health | /.well-known/jwks.json) echo 200 ;;
    /metrics) echo 404 ;;
    *) echo 401 ;;
esac
"""


@pytest.fixture
def deploy(tmp_path):
    for name, text in (("kubectl", KUBECTL), ("curl", CURL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name in ("staging", "prod"):
        (tmp_path / f"{name}.yaml").write_text(overlay_text(name))

    def run(which="production", digest="a" * 64, **environment):
        log = tmp_path / "log"
        log.write_text("")
        done = subprocess.run(
            [ROOT / "deploy/deploy.sh", which], capture_output=True, text=True, timeout=60,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECTL": str(tmp_path / "kubectl"), "RENDERED": str(tmp_path),
                 "LOG": str(log), "DIGEST": digest, "FAIL": "", "POLL_SECONDS": "0", "BROKEN": "none", **environment})
        return done, log.read_text().splitlines()

    return run


def applied(calls):
    return [call.split("--selector ")[1] for call in calls if call.startswith("apply")]


ALL = ["!app.kubernetes.io/component", "app.kubernetes.io/component=migrate", "app.kubernetes.io/component in (api,worker)"]


@pytest.mark.parametrize("which", ["staging", "production"])
def test_shared_objects_then_migrations_then_the_rollout(deploy, which):
    done, calls = deploy(which)
    assert done.returncode == 0, done.stderr
    assert applied(calls) == ALL
    migrated = next(n for n, call in enumerate(calls) if call.startswith("get job"))
    rolled = next(n for n, call in enumerate(calls) if "in (api,worker)" in call and call.startswith("apply"))
    assert migrated < rolled
    assert [call for call in calls if call.startswith("rollout")] == [
        f"rollout status deployment.apps/{name} --timeout 600s" for name in DEPLOYMENTS]


def rolled_back(calls):
    return [call for call in calls if call.startswith("rollout undo")] == [
        "rollout undo deployment/gateway --to-revision 7", "rollout undo deployment/report-worker --to-revision 3"]


@pytest.mark.parametrize("fails", ["apply*in ?api,worker?", "rollout status deployment.apps/report-worker*", "get deployment*name"])
def test_rolls_back_where_kubectl_fails(deploy, fails):
    done, calls = deploy(FAIL=fails)
    assert done.returncode != 0 and rolled_back(calls), (done.stderr, calls)
    assert "rolled back to what ran before" in done.stderr


@pytest.mark.parametrize("path", ["/health", "/.well-known/jwks.json", "/api/v1/catalog/items", "/metrics"])
def test_rolls_back_where_the_smoke_test_fails(deploy, path):
    done, calls = deploy(BROKEN=path)
    assert done.returncode != 0 and rolled_back(calls) and path in done.stderr


def test_says_where_the_rollback_fails_too(deploy):
    done, _ = deploy(FAIL="rollout *")
    assert done.returncode != 0 and "the rollback is not complete" in done.stderr


@pytest.mark.parametrize("environment", [{"JOB": "Failed"}, {"FAIL": "apply*migrate*"}, {"FAIL": "apply*!*"}, {"FAIL": "wait *"},
                                         {"JOB": "none", "MIGRATE_SECONDS": "0"}])
def test_nothing_is_rolled_out_before_migrations_are_done(deploy, environment):
    done, calls = deploy(**environment)
    assert done.returncode != 0
    assert ALL[2] not in applied(calls) and not any(call.startswith("rollout") for call in calls)


def test_images_without_a_digest_are_refused(deploy):
    done, calls = deploy(digest="0" * 64)
    assert done.returncode != 0 and "names no digests" in done.stderr and calls == []


@pytest.mark.parametrize("which", ["", "prod", "dev"])
def test_other_environments_are_refused(deploy, which):
    done, calls = deploy(which)
    assert done.returncode != 0 and calls == []
