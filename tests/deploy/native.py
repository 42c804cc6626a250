"""Lote as the native stack runs it, in a folder of its own: for what is shown on real servers outside of the tests."""

import base64
import contextlib
import csv
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from sources import ROOT

BINARIES = pathlib.Path(os.environ.get("LOTE_BINARIES", ROOT / "target/debug"))
SIMULATORS = ("bsale", "bigquery", "telnyx")
BEGAN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", file=sys.stderr, flush=True)


class Platform:
    """Servers, APIs and workers, started by `stack up`, with their settings. `roles` says which go on: the others are ended."""

    def __init__(self, home, roles):
        self.home = home
        self.stack("up")
        self.settings = dict(re.findall(r"export (\w+)='(.*)'", (home / "env").read_text()))
        self.environments = {}
        for file in (home / "demo/logs").glob("*.process"):
            process, pid = file.stem, int(file.read_text().split()[0])
            lines = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
            self.environments[process] = dict(line.split("=", 1) for line in lines if line)
            role = "worker" if process.endswith("-worker") else "simulator" if process in SIMULATORS else "api"
            if role not in roles:
                os.kill(pid, signal.SIGTERM)
                # It must not be taken for one that runs.
                file.unlink()

    def stack(self, *arguments, **options):
        options = {"stdout": sys.stderr, "check": True} | options
        return subprocess.run([BINARIES / "stack", *arguments], env=os.environ | {"LOTE_HOME": str(self.home)}, **options)

    def query(self, service, sql):
        """The lines that a service's database answers."""
        url = self.settings[f"{service.upper().replace('-', '_')}_DATABASE_URL"]
        done = subprocess.run(["psql", url, "-AtF", "\t", "-c", sql], stdout=subprocess.PIPE, text=True, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def doctors(self):
        """What the services' doctors find."""
        found = []
        for service in ("gateway", "catalog-upload", "report", "sms-dispatch", "etl"):
            environment = self.environments["gateway" if service == "gateway" else f"{service}-api"] | {"RUST_LOG": "warn"}
            done = subprocess.run([BINARIES / f"lote-{service}", "doctor"], env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)
            found += [] if done.returncode == 0 else [f"{service}: {done.stdout.strip()}"]
        return found


@contextlib.contextmanager
def platform(home, roles):
    shutil.rmtree(home, ignore_errors=True)
    made = None
    try:
        made = Platform(home, roles)
        yield made
    finally:
        subprocess.run([BINARIES / "stack", "clean"], env=os.environ | {"LOTE_HOME": str(home)}, stdout=sys.stderr, check=False)


def role_binary(process):
    """The binary of a process, and the role that it is told."""
    service = process.removesuffix("-api").removesuffix("-worker")
    return BINARIES / f"lote-{service}", "worker" if process.endswith("-worker") else "api"


class Process:
    """A process of a service, as a pod has it: SIGTERM, and the grace to drain."""

    def __init__(self, name, port, environment, log):
        self.name, self.port, self.log = name, port, log
        self.environment = environment | {"HTTP_PORT": str(port)}
        self.start()

    def start(self):
        binary, role = role_binary(self.name)
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([binary, role], stdout=out, stderr=subprocess.STDOUT, env=self.environment)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def is_ready(self):
        try:
            with urllib.request.urlopen(self.url("/health/ready"), timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_ready(self, limit=120):
        deadline = time.monotonic() + limit
        while not self.is_ready():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.log}"
            assert time.monotonic() < deadline, f"{self.name} is not ready after {limit} s: {self.log}"
            time.sleep(0.1)

    def in_hand(self):
        """Messages that it is at work on, or None where it does not answer (yet)."""
        try:
            with urllib.request.urlopen(self.url("/metrics"), timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return sum(float(value) for value in re.findall(r"^lote_messages_in_flight\{[^}]*\} ([\d.]+)$", text, re.M))

    def end(self):
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        code = self.process.poll()
        assert code in (None, 0), f"{self.name} ended with {code}: {self.log}"
        return code == 0


class Server:
    """A server of the stack: ended, and started again with the command, folder and environment that it had."""

    def __init__(self, made, name, program, signals):
        self.name, self.signals, self.log = name, signals, made.home / f"{name}.log"
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                command = (entry / "cmdline").read_text().split("\0")[:-1]
                environment = (entry / "environ").read_text()
                belongs = str(made.home) in " ".join(command) + environment + os.readlink(entry / "cwd")
                if belongs and pathlib.Path(command[0]).name.startswith(program):
                    self.pid, owner = int(entry.name), entry.stat()
                    self.user, self.group = owner.st_uid, owner.st_gid
                    self.command, self.cwd = command, os.readlink(entry / "cwd")
                    if program == "redis-server":
                        # It writes its title where its arguments were.
                        (file,) = (made.home / "demo/redis").glob("*.conf")
                        self.command = [program, str(file)]
                    self.environment = dict(line.split("=", 1) for line in environment.split("\0") if "=" in line)
                    return
        raise AssertionError(f"{name} does not run")

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def restart(self):
        os.kill(self.pid, self.signals)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(self.pid, 0)
                stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
                if stat == "Z":
                    break
                time.sleep(0.1)
        with open(self.log, "ab") as out:
            process = subprocess.Popen(self.command, cwd=self.cwd, env=self.environment, stdout=out, stderr=out,
                                       start_new_session=True, user=self.user, group=self.group)
        self.pid = process.pid


def ask(url, token=None, data=None, headers=None, method=None):
    """A JSON answer; credentials may stand in the URL."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(url.replace(f"{parts.username}:{parts.password}@", ""), data=data, method=method)
    if parts.username:
        secret = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for key, value in (headers or {}).items():
        request.add_header(key, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{request.full_url}: {error.code} {error.read()[:500]}") from error


def form(filename, content):
    boundary = "lote-scale"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n' \
           "Content-Type: application/octet-stream\r\n\r\n"
    return (head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def table(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()
