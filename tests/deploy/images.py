"""Every binary as its image runs it: user 10001, no capabilities, a read-only root of Debian slim with the CA bundle and that
binary, /tmp alone to write to; with compose's environment, at the tests' servers. `make images` runs it, as root: the root is
made by mmdebstrap from Debian's mirror. It needs built binaries and no engine.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time
import urllib.error

import pytest

import sources
from rendering import compose
from servers import answers, free_port, running
from sources import ROOT

IMAGE = ROOT / ".stack/image"
BINARIES = pathlib.Path(os.environ.get("LOTE_BINARIES", ROOT / "target/debug"))
STACK = ROOT / ".stack/images"
# In a mount namespace of its own: nothing of this stays behind.
ENTER = """set -eu
mount --make-rprivate /
mount --bind "$1" "$1"
touch "$1/usr/local/bin/$2"
mount --bind "$3" "$1/usr/local/bin/$2"
mount --bind /dev "$1/dev"
mount -t tmpfs -o size=64m,mode=1777 lote "$1/tmp"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
root=$1 binary=$2; shift 3
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \\
    chroot --userspec=10001:10001 --groups= "$root" "/usr/local/bin/$binary" "$@"
"""


def command(service, *arguments):
    binary = f"lote-{service}"
    return ["unshare", "--mount", "bash", "-c", ENTER, "bash", IMAGE, binary, BINARIES / binary, *arguments]


@pytest.fixture(scope="module")
def environments():
    """Compose's environment of each container, with the addresses of the tests' servers."""
    stack = {**os.environ, "LOTE_TEST_STACK": str(STACK)}
    subprocess.run([BINARIES / "stack", "test-up"], check=True, env=stack)
    try:
        memory = json.loads((STACK / "servers.json").read_text())
        ports = memory["ports"]
        model = compose()["services"]
        passwords = model["postgres"]["environment"]
        database = {"PGHOST": "127.0.0.1", "PGPORT": str(ports["postgres"]), "PGPASSWORD": memory["postgres_password"]}
        subprocess.run([ROOT / "deploy/postgresql/roles.sh"], check=True, env={"PATH": os.environ["PATH"], **database, **passwords})
        sales = model["mariadb"]["environment"]["MARIADB_PASSWORD"]
        subprocess.run(
            ["mariadb", "--host=127.0.0.1", f"--port={ports['mariadb']}", "--user=lote", f"--password={memory['mariadb_password']}",
             "--execute", f"create database sales; create user sales@'127.0.0.1' identified by '{sales}'; "
                          "grant all on sales.* to sales@'127.0.0.1'"], check=True)
        gateway = free_port()
        there = {
            "@postgres:5432": f"@127.0.0.1:{ports['postgres']}", "@mariadb:3306": f"@127.0.0.1:{ports['mariadb']}",
            "//localstack:4566": f"//127.0.0.1:{ports['localstack']}", "//gateway:8001": f"//127.0.0.1:{gateway}",
        }
        found = {}
        for name, service in model.items():
            if not service["image"].startswith("lote/") or "LOTE_SIMULATE_HOST" in service["environment"]:
                continue
            environment = {"PATH": os.environ["PATH"]} | {key: value or "" for key, value in service["environment"].items()}
            for key in environment:
                for old, new in there.items():
                    environment[key] = environment[key].replace(old, new)
            if "AMQP_URL" in environment:
                environment |= {
                    "AMQP_URL": f"amqp://lote:{memory['rabbit_password']}@127.0.0.1:{ports['rabbit']['amqp']}/%2f",
                    "REDIS_URL": f"redis://:{memory['redis_password']}@127.0.0.1:{ports['redis']}",
                    # All on one machine here, and so each on ports of its own.
                    "HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(gateway if name == "gateway" else free_port()),
                    "METRICS_PORT": str(free_port()),
                }
            found[name] = environment
        yield found
    finally:
        subprocess.run([BINARIES / "stack", "test-down"], env=stack)


@pytest.fixture(scope="module")
def migrated(environments):
    for service in sources.services():
        done = subprocess.run(command(service, "migrate"), env=environments[f"migrate-{service}"], capture_output=True, text=True)
        assert done.returncode == 0, f"{service}: {done.stderr[-2000:]}"
    return environments


def test_the_root_is_what_the_image_holds():
    found = subprocess.run(["chroot", IMAGE, "sh", "-c", "command -v curl python3 perl-doc psql gcc; test -s /etc/ssl/certs/ca-certificates.crt"],
                           capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), "more than Debian slim and the CA bundle"


def test_it_can_write_nowhere_but_tmp(tmp_path):
    # The same way in, with a program of Debian's in the place of a binary.
    inside = ["unshare", "--mount", "bash", "-c", ENTER, "bash", IMAGE, "lote-shell", "/bin/bash", "-c"]
    script = ('id -u; grep -h -E "^(CapEff|CapPrm|NoNewPrivs)" /proc/self/status; touch /tmp/x && echo tmp; '
              'for place in / /etc /usr/local/bin /var/tmp /root; do touch "$place/x" 2>/dev/null && echo "$place"; done; true')
    done = subprocess.run([*map(str, inside), script], capture_output=True, text=True)
    assert done.stdout.split("\n") == [
        "10001", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "tmp", ""], done


def test_every_role_is_ready(migrated, tmp_path):
    with contextlib.ExitStack() as all_of_them:
        # The gateway first: the others ask it for keys.
        started = []
        for process, service, role in sources.processes():
            environment = migrated[process]
            url = f"http://127.0.0.1:{environment['HTTP_PORT']}/health/ready"
            log = tmp_path / f"{process}.log"
            started.append((process, log, all_of_them.enter_context(
                running(command(service, role), log, lambda url=url: answers(url), env=environment))))
        for process, _, _ in started:
            ports = [f"http://127.0.0.1:{migrated[process][name]}" for name in ("HTTP_PORT", "METRICS_PORT")]
            assert answers(ports[1] + "/metrics")
            for path in ("/metrics", "/metrics/"):
                # What is shown to the world has none.
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    answers(ports[0] + path)
        for process, log, running_ in started:
            pid = running_.pid
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.M), process
            resident = int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)[1])
            print(json.dumps({"process": process, "ready": True, "uid": 10001, "peak_megabytes": round(resident / 1000, 1)}))
        begun = time.monotonic()
        for _, _, one in started:
            one.terminate()
        for process, log, one in started:
            assert one.wait(60) == 0, f"{process}: {log.read_text()[-2000:]}"
        print(json.dumps({"processes": len(started), "stopped_seconds": round(time.monotonic() - begun, 1)}))
