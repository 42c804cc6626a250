"""Two processes of each role behind the real Traefik, restarted one after the other under load, and the servers too: nothing is
lost, nothing is done twice.

    make chaos CHAOS=rolling

MINUTES (10) of uploads, campaigns and single messages through a simulated Telnyx, reports, syncs of a simulated Bsale and BigQuery,
searches, dashboards and live streams, while each process is told to end (SIGTERM) and started again, and PostgreSQL, RabbitMQ, Redis
and MariaDB are restarted in turn; LocalStack is not, as it keeps nothing. Between the gateway and the services stands what a Service
is in a cluster: a balancer that sends to whoever is ready. A request may be repeated where it was answered 503 with Retry-After;
every other failure counts as lost. What front_door.py looks at is looked at first. One JSON line on standard output; exit code 1
where something does not hold.
"""

import collections
import contextlib
import http.client
import json
import os
import signal
import ssl
import threading
import time
import urllib.request
import uuid

import yaml

import front_door
import sources
from front_door import JSON, connect
from native import Process, Server, ask, form, platform, say, table
from rendering import BIN
from servers import free_port, running
from sources import ROOT

MINUTES = float(os.environ.get("MINUTES", "10"))
HOME = ROOT / ".stack/rolling"
APIS = ("gateway", "catalog-upload", "report", "sms-dispatch", "etl")
SENDER = "+525550001111"
UPLOAD_ROWS = 40
# Of each campaign.
RECIPIENTS = 300
CONSENT = "consent_basis=contrato&consent_at=2025-01-31&consent_source=alta"
PLAIN = {"PATH": os.environ["PATH"], "HOME": str(HOME)}
# Runs of a stream that began before the one before had ended.
BESIDE = """select count(*) from jobs a join jobs b on b.params ->> 'lane' = a.params ->> 'lane' and b.id > a.id
            and b.started_at < a.finished_at where a.kind = 'etl.runs' and b.kind = 'etl.runs'"""
# Tables of the sales database, and what the simulated Bsale calls them in its own account.
SALES = {"productos": "productos", "variantes": "variantes", "clientes": "clientes", "documentos_venta": "documentos"}


# --- what runs ----------------------------------------------------------------------------------------------------


def balancer(folder, ports):
    """Traefik as a cluster's Services: an address an API, behind it those of its processes that are ready."""
    doors = {api: free_port() for api in ports}
    # As a Service it ends nothing, and leaves alone what the proxy before it says of the client.
    as_it_is = {"transport": {"respondingTimeouts": {"readTimeout": "0s"}}, "forwardedHeaders": {"insecure": True}}
    static = {"entryPoints": {api: {"address": f"127.0.0.1:{doors[api]}", **as_it_is} for api in doors},
              "providers": {"file": {"filename": str(folder / "services.yml")}}, "log": {"level": "ERROR"},
              "global": {"checkNewVersion": False, "sendAnonymousUsage": False}}
    check = {"path": "/health/serving", "interval": "500ms", "timeout": "2s"}
    routers = {api: {"rule": "PathPrefix(`/`)", "entryPoints": [api], "service": api} for api in doors}
    services = {api: {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"} for port in ports[api]], "healthCheck": check,
                                       "passHostHeader": True}} for api in doors}
    (folder / "services.yml").write_text(yaml.safe_dump({"http": {"routers": routers, "services": services}}))
    (folder / "balancer.yml").write_text(yaml.safe_dump(static))
    return doors, [BIN / "traefik", f"--configFile={folder}/balancer.yml"]


def front(folder, gateway):
    """deploy/traefik, before the gateways' balancer."""
    port, ping = free_port(), free_port()
    config = sources.text("deploy/traefik/traefik.yml")
    for old, new in {":8443": f"127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{ping}",
                     "/etc/traefik/dynamic": str(ROOT / "deploy/traefik/dynamic")}.items():
        assert old in config
        config = config.replace(old, new)
    (folder / "traefik.yml").write_text(config)
    return port, [BIN / "traefik", f"--configFile={folder}/traefik.yml"], {"GATEWAY_URL": gateway}


# --- who asks -----------------------------------------------------------------------------------------------------


class Client:
    """One connection at a time through Traefik; counts what was lost and how long answers took."""

    def __init__(self, port, token, tally):
        self.port, self.token, self.tally, self.connection = port, token, tally, None

    def once(self, method, path, body, headers):
        if self.connection is None:
            self.connection = connect(self.port)
        try:
            self.connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise
        if answer.will_close:
            self.connection.close()
            self.connection = None
        return answer.status, answer.getheader("Retry-After"), text

    def ask(self, what, method, path, body=None, headers=None):
        """The answer as JSON, or None where the request is lost."""
        began = time.monotonic()
        while True:
            reused = self.connection is not None
            try:
                status, again, text = self.once(method, path, body, headers or {})
            except (OSError, http.client.HTTPException) as error:
                # Every client asks again where a connection that it kept was closed before anything was answered.
                if reused and isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)):
                    self.tally.stale += 1
                    continue
                self.tally.fail(what, f"{type(error).__name__}: {error}")
                return None
            if status == 503 and again:
                self.tally.again += 1
                if time.monotonic() - began > 120:
                    self.tally.fail(what, "503 for two minutes")
                    return None
                time.sleep(min(float(again), 1))
                continue
            break
        self.tally.took.append((what, time.monotonic() - began))
        if status >= 400:
            self.tally.fail(what, f"{status} {text[:200]}")
            return None
        return json.loads(text or b"null")


class Tally:
    def __init__(self):
        self.took, self.failed, self.again, self.stale = [], collections.Counter(), 0, 0

    def fail(self, what, why):
        self.failed[what] += 1
        say(f"{what}: {why}")

    def p99(self):
        times = sorted(seconds for _, seconds in self.took)
        return round(1000 * times[int(len(times) * 0.99)], 1) if times else None


class Live(threading.Thread):
    """A live stream that comes back by Last-Event-ID; which imports it saw end."""

    def __init__(self, port, token, stop):
        super().__init__(daemon=True)
        self.port, self.token, self.stop, self.opened, self.resets = port, token, stop, 0, 0
        # By the id of the event: one may come again where a stream goes on.
        self.seen = {}

    def run(self):
        last = None
        while not self.stop.is_set():
            headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
            if last:
                headers["Last-Event-ID"] = last
            connection = connect(self.port, timeout=40)
            try:
                connection.request("GET", "/api/v1/stream", headers=headers)
                answer = connection.getresponse()
                if answer.status == 200:
                    self.opened += 1
                    last = self.read(answer, last)
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.5)

    def read(self, answer, last):
        event, data = None, None
        while not self.stop.is_set():
            try:
                line = answer.readline().decode().rstrip("\n")
            except (OSError, http.client.HTTPException):
                return last
            if not line and answer.isclosed():
                return last
            if line.startswith("id: "):
                last = line[4:]
            elif line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line:
                if event == "lote.catalog.v1.ImportCompleted":
                    self.seen[last] = json.loads(data)["data"]["task_id"]
                elif event == "reset":
                    self.resets += 1
                event = data = None
        return last


class Load:
    """What people and machines do, each in a thread of its own."""

    def __init__(self, port, token, operator, day, people):
        self.port, self.day, self.people = port, day, people
        self.tally, self.stop = Tally(), threading.Event()
        self.uploads, self.messages, self.campaigns, self.reports, self.syncs = [], [], [], [], []
        # Who watches stays until all that was begun has ended.
        self.watched = threading.Event()
        self.live = [Live(port, token, self.watched) for _ in range(2)]
        # Whoever runs syncs is an operator.
        self.operator = Client(port, operator, self.tally)
        jobs = [(job, Client(port, token, self.tally)) for job in (self.upload, self.search, self.search, self.send, self.campaign,
                                                                       self.report)]
        jobs += [(job, Client(port, operator, self.tally)) for job in (self.sync_sales, self.sync_collections, self.dashboards)]
        self.threads = [threading.Thread(target=self.loop, args=job, daemon=True) for job in jobs]

    def start(self):
        for thread in [*self.live, *self.threads]:
            thread.start()

    def loop(self, job, client):
        number = 0
        while not self.stop.is_set():
            number += 1
            job(client, number)

    def upload(self, client, number):
        body, headers = form(f"r{number}.csv", front_door.products(f"R{number}", UPLOAD_ROWS))
        path = "/api/v1/catalog/items/bulk-upload?proveedor_id=PROV-ROLL"
        done = client.ask("upload", "POST", path, body, headers | {"Idempotency-Key": f"rolling-{number}"})
        if done:
            self.uploads.append(done["task_id"])
        time.sleep(0.5)

    def search(self, client, number):
        client.ask("search", "GET", f"/api/v1/catalog/items?size=20&page={1 + number % 3}")
        time.sleep(0.05)

    def send(self, client, number):
        wanted = json.dumps({"to": f"612{number:07}", "text": f"Código {number}", "sender": SENDER, "validity_seconds": 3600}).encode()
        headers = JSON | {"Idempotency-Key": f"rolling-{number}"}
        done = client.ask("message", "POST", "/api/v1/messages", wanted, headers)
        if done:
            self.messages.append((number, done["id"]))
        time.sleep(0.4)

    def campaign(self, client, number):
        """A campaign to all people, which is looked at until it ends."""
        plan = {"texts": [{"text": f"Campaña {number}"}], "audience": {"file_id": self.people}, "senders": [{"address": SENDER}]}
        draft = json.dumps({"name": f"Campaña {number}", "kind": "cobranza", "plan": plan}).encode()
        kept = client.ask("campaign", "POST", "/api/v1/campaigns", draft, JSON)
        path = kept and f"/api/v1/campaigns/{kept['id']}"
        if not path or not client.ask("start", "POST", path + "/start", b"", {}):
            return
        self.campaigns.append((f"Campaña {number}", kept["id"]))
        while not self.stop.is_set():
            campaign = client.ask("campaign", "GET", path)
            if not campaign or campaign["state"] in ("completed", "cancelled", "failed"):
                break
            time.sleep(0.5)
        time.sleep(5)

    def report(self, client, _):
        wanted = json.dumps({"fecha": self.day.replace("-", "/"), "formato": "csv", "forzar": True}).encode()
        done = client.ask("report", "POST", "/api/v1/reports", wanted, JSON | {"Idempotency-Key": str(uuid.uuid4())})
        if done:
            self.reports.append(done["id"])
        time.sleep(4)

    def sync_sales(self, client, _):
        self.sync(client, "/etl/run-daily-sync")
        time.sleep(1)

    def sync_collections(self, client, _):
        self.sync(client, "/api/v1/etl/refresh/dashboard")
        time.sleep(10)

    def sync(self, client, path):
        """Asks for a run of each stream of a source, and looks at them until the last has ended."""
        begun = client.ask("sync", "POST", path, b"{}", JSON)
        if not begun:
            return
        self.syncs.extend(begun["runs"])
        while not self.stop.is_set():
            runs = client.ask("run", "GET", f"/api/v1/etl/runs/{begun['run_id']}")
            if not runs or runs["estado"] not in ("pending", "running"):
                return
            time.sleep(0.5)

    def dashboards(self, client, number):
        client.ask("dashboard", "GET", ("/api/v1/dashboard", "/api/v1/etl/status", "/api/v1/etl/runs?limit=20")[number % 3])
        time.sleep(0.2)


# --- the rounds ---------------------------------------------------------------------------------------------------


def wait_for(what, limit, condition):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what} after {limit} s"
        time.sleep(0.5)


def roll(processes, servers, load, upload):
    """Each process, then each server, until the time is over. How many of each. Those that the slow upload goes through come last,
    and wait for its end."""
    processes = sorted(processes, key=lambda process: process.name in front_door.UPLOAD_WAY)
    counts = collections.Counter()
    end = time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        for process in processes:
            if time.monotonic() > end:
                break
            if process.name in front_door.UPLOAD_WAY:
                upload.join()
            process.end()
            wait_for(f"{process.name} has not ended", 150, process.ended)
            process.start()
            process.wait_ready()
            counts["processes"] += 1
            # Until balancers know.
            time.sleep(1)
        upload.join()
        for server in servers:
            say(f"restart {server.name}; {len(load.uploads)} uploads, {len(load.messages)} messages, {len(load.campaigns)} campaigns, "
                f"{len(load.reports)} reports, {len(load.syncs)} syncs, lost {dict(load.tally.failed)}, again {load.tally.again}")
            server.restart()
            counts["servers"] += 1
            time.sleep(5)
            for process in processes:
                process.wait_ready()
    return counts


def start_processes(made, stack):
    """Two of each role behind a balancer of their own. They, and where each API's door is."""
    names = [name for name in made.environments if name.removesuffix("-api").removesuffix("-worker") in APIS]
    ports = {name: [free_port(), free_port()] for name in names}
    apis = {name.removesuffix("-api"): ports[name] for name in names if not name.endswith("-worker")}
    doors, command = balancer(HOME, apis)
    stack.enter_context(running(command, HOME / "balancer.log", lambda: True, env=PLAIN))
    door = {api: f"http://127.0.0.1:{port}" for api, port in doors.items()}
    changes = {"JWKS_URL": door["gateway"] + "/.well-known/jwks.json", "HTTP_LAME_DUCK_SECONDS": "3", "RUST_LOG": "warn",
               "RATE_LIMIT_UPLOAD": "100000/60", "RATE_LIMIT_DEFAULT": "1000000/60",
               "UPLOAD_CONNECTIONS": "1000", "CALLER_CONNECTIONS": "10000", "ACCESS_TOKEN_SECONDS": "86400",
               "SMS_PUBLIC_URL": door["gateway"], "SMS_QUIET_HOURS": "false", "TRUSTED_PROXIES": "127.0.0.1",
               # The shop is 20 days old: a first sync that asks about years would take most of a short run.
               "BSALE_START_DATE": time.strftime("%Y-%m-%d", time.gmtime(time.time() - 40 * 86_400))}
    changes |= {f"{api.upper().replace('-', '_')}_URL": url for api, url in door.items() if api != "gateway"}
    processes = []
    for number in (0, 1):
        for name in names:
            # The gateway's port is the one that people reach.
            metrics = {"METRICS_PORT": str(free_port())} if name == "gateway" else {}
            environment = made.environments[name] | changes | metrics
            processes.append(Process(name, ports[name][number], environment, HOME / f"{name}-{number}.log"))
    stack.callback(lambda: [process.process.kill() for process in processes])
    for process in processes:
        process.wait_ready()
    return processes, door


def log_in(gateway, name, password):
    login = json.dumps({"username": name, "password": password}).encode()
    return ask(gateway + "/api/v1/auth/login", data=login, headers=JSON)["access_token"]


def new_operator(gateway, token):
    """The token of an operator who is new."""
    name, password = "rolling", uuid.uuid4().hex
    ask(gateway + "/api/v1/users", token, json.dumps({"username": name, "password": password, "role": "operator"}).encode(), JSON)
    return log_in(gateway, name, password)


def prepare(made, gateway, token, day):
    """A sender of messages, and campaigns of a day for reports. Gives the audience of those that are sent."""
    sender = json.dumps({"provider": "telnyx", "kind": "long_code", "per_second": 50, "price_micros": 1000, "currency": "USD",
                         "enabled": True}).encode()
    ask(gateway + "/api/v1/sms/senders/" + SENDER.replace("+", "%2B"), token, sender, JSON, "PUT")
    (HOME / "maestro.csv").write_bytes(table(
        [["id", "fecha", "nombre", "estado", "descripcion"], *[[one, day, f"C{one}", "CERRADA", ""] for one in range(1, 11)]]))
    (HOME / "detalle.csv").write_bytes(table(
        [["id", "id_maestro", "telefono", "mensaje", "fecha_envio", "estado", "error"],
         *[[row + 1, 1 + row % 10, f"+57300{row:07}", f"hola {row}", f"{day} 10:00:00", "ENVIADO", ""] for row in range(2_000)]]))
    made.stack("report", "load", "--maestro", HOME / "maestro.csv", "--detalle", HOME / "detalle.csv")
    body, headers = form("people.csv", table([["celular", "nombre"], *[[f"612{2_000_000 + one}", f"P{one}"] for one in range(RECIPIENTS)]]))
    audience = ask(f"{gateway}/api/v1/audiences?{CONSENT}", token, body, headers | {"Idempotency-Key": "rolling"})
    wait_for("the audience is not loaded", 60, lambda: ask(gateway + audience["status_url"], token)["status"] == "completed")
    return audience["id"]


def main():
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    with platform(HOME, ("simulator",)) as made, contextlib.ExitStack() as stack:
        processes, door = start_processes(made, stack)
        port, command, variables = front(HOME, door["gateway"])
        stack.enter_context(running(command, HOME / "traefik.log", lambda: True, env=PLAIN | variables))
        wait_for("the gateway is not reached", 60, lambda: reached(door["gateway"]) and reached(f"https://127.0.0.1:{port}"))
        token = log_in(door["gateway"], made.settings["ADMIN_USER"], made.settings["ADMIN_PASSWORD"])
        people = prepare(made, door["gateway"], token, day)
        servers = [Server(made, "PostgreSQL", "postgres", signal.SIGINT), Server(made, "Redis", "redis-server", signal.SIGTERM),
                   Server(made, "RabbitMQ", "beam", signal.SIGTERM), Server(made, "MariaDB", "mariadbd", signal.SIGTERM)]

        # The stack does not know those that this started.
        stack.callback(lambda: [server.kill() for server in servers])

        figures = front_door.look(port, token, SENDER)
        upload, load = front_door.SlowUpload(port, token), Load(port, token, new_operator(door["gateway"], token), day, people)
        upload.start()
        load.start()
        say(f"{len(processes)} processes; at the front door {figures}; the load begins")
        counts = roll(processes, servers, load, upload)
        load.stop.set()
        for thread in load.threads:
            thread.join(150)
        say("the load ends")
        verdict(made, load, counts, figures | {"upload_answer": upload.answer, "upload_s": upload.seconds})


def reached(url):
    with contextlib.suppress(OSError):
        anybody = ssl._create_unverified_context() if url.startswith("https") else None
        return urllib.request.urlopen(url + "/health", timeout=5, context=anybody).status == 200
    return False


def truth(made, process, setting, path):
    """What a simulated vendor says of itself: the one that a process was told of."""
    base = made.environments[process][setting].rsplit("/", 1)[0]
    with urllib.request.urlopen(f"{base}/truth{path}", timeout=30) as answer:
        return json.load(answer)


def count_uploads(made, load, lost, doubled):
    products = int(made.query("catalog-upload", "select count(*) from products where proveedor_id = 'PROV-ROLL'")[0][0])
    imports = int(made.query("catalog-upload", "select count(*) from imports where proveedor_id = 'PROV-ROLL'")[0][0])
    lost["products"] = max(0, len(load.uploads) * UPLOAD_ROWS - products)
    doubled["imports"] = imports - len(set(load.uploads))
    for live in load.live:
        lost["live"] = max(lost["live"], len(set(load.uploads) - set(live.seen.values())) if not live.resets else 0)
        doubled["live"] += len(live.seen) - len(set(live.seen.values()))


def all_accepted(made):
    """What the simulated Telnyx has accepted, in its order."""
    accepted = []
    while page := truth(made, "sms-dispatch-api", "TELNYX_URL", f"/accepted?from={len(accepted)}"):
        accepted.extend(page)
    return accepted


def count_messages(made, load, lost, doubled):
    accepted = collections.Counter((one["to"], one["text"]) for one in all_accepted(made))
    texts = collections.Counter(text for _, text in accepted)
    lost["messages"] = sum(texts[f"Código {number}"] == 0 for number, _ in load.messages)
    lost["recipients"] = sum(RECIPIENTS - texts[text] for text, _ in load.campaigns)
    doubled["messages"] = sum(many - 1 for many in accepted.values())
    states = dict(made.query("sms-dispatch", "select id, state from campaigns"))
    lost["campaigns"] = sum(states.get(one) != "completed" for _, one in load.campaigns)


def count_syncs(made, load, lost, doubled):
    """Runs, and rows of the sales database beside those that Bsale has."""
    lost["syncs"] = len(set(load.syncs) - {row[0] for row in made.query("etl", "select id from jobs where kind = 'etl.runs'")})
    doubled["syncs"] = int(made.query("etl", BESIDE)[0][0])
    shop = truth(made, "etl-api", "BSALE_API_URL", ".json")
    for table_name, of_shop in SALES.items():
        status = load.operator.ask("table", "GET", f"/api/v1/etl/status/table/{table_name}")
        more = status["records_count"] - int(shop[of_shop]) if status else 0
        lost[table_name], doubled[table_name] = max(0, -more), max(0, more)


def verdict(made, load, counts, figures):
    def open_jobs():
        return [row for service in ("catalog-upload", "report", "sms-dispatch", "etl")
                for row in made.query(service, "select kind, state, count(*) from jobs where state <> 'completed' group by 1, 2")]

    def campaigns_open():
        ids = {one for _, one in load.campaigns}
        return [one for one, state in made.query("sms-dispatch", "select id, state from campaigns") if one in ids and state != "completed"]

    # Jobs that send come and go until the last campaign has ended.
    for what, left in (("campaigns have not ended", campaigns_open), ("jobs are not done", open_jobs)):
        with contextlib.suppress(AssertionError):
            wait_for(what, 180, lambda: not left())
    with contextlib.suppress(AssertionError):
        wait_for("ends are not told", 30, lambda: all(set(load.uploads) <= set(live.seen.values()) for live in load.live))
    load.watched.set()
    lost, doubled, left = collections.Counter(), collections.Counter(), open_jobs()
    for count in (count_uploads, count_messages, count_syncs):
        count(made, load, lost, doubled)
    runs = {row[0] for row in made.query("report", "select id from runs")}
    lost["runs"] = len(set(load.reports) - runs)
    lost.update(load.tally.failed)
    requests = len(load.tally.took) + sum(load.tally.failed.values())
    found, wrong = made.doctors(), front_door.wrong(figures)
    line = {"chaos": "rolling", "minutes": MINUTES, **counts, "requests": requests, "again": load.tally.again, "stale": load.tally.stale,
            "uploads": len(load.uploads), "messages": len(load.messages), "campaigns": len(load.campaigns),
            "recipients": RECIPIENTS * len(load.campaigns), "reports": len(load.reports), "syncs": len(set(load.syncs)),
            "streams_opened": sum(live.opened for live in load.live), "resets": sum(live.resets for live in load.live),
            "error_rate": round(sum(load.tally.failed.values()) / max(1, requests), 5), "p99_ms": load.tally.p99(), **figures,
            "lost": sum(lost.values()), "doubled": sum(doubled.values()), "jobs_left": len(left), "doctor": len(found)}
    print(json.dumps(line), flush=True)
    say(f"lost {dict(+lost)}, doubled {dict(+doubled)}, jobs {left}, doctor {found}, at the front door {wrong}")
    assert (line["lost"], line["doubled"], line["jobs_left"], line["doctor"], wrong) == (0, 0, 0, 0, [])


if __name__ == "__main__":
    main()
