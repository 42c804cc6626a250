"""KEDA's and the HPA's arithmetic, fed with the rendered ScaledObjects, against real queues: it starts and stops real workers.

    make scale

From no worker: a burst of imports, contact imports and a day's report files arrives; workers come, do it, and go. A pod that goes
may be any one in a cluster: here it is the busiest. Every period of the ScaledObjects is divided by SPEED. One JSON line a role on
standard output, and one for the whole; it fails where something is lost or done twice, or where workers stay.

What KEDA does is written down after its documentation: RabbitMQ's metric is ready and unacknowledged messages, SQS's visible and in
flight; above `activationValue` a role is active; an inactive one goes to its least after the cooldown; between, the HPA
wants ceil(metric / value), within ten percent nothing, and goes down by the highest of its stabilisation window.
"""

import concurrent.futures
import dataclasses
import datetime
import json
import math
import os
import time

import boto3

from checks.objects import kind, labels, name
from native import Process, ask, form, platform, say, table
from rendering import overlay
from servers import free_port
from sources import ROOT

SPEED = float(os.environ.get("SPEED", "30"))
HOME = ROOT / ".stack/scale"
IMPORTS, IMPORT_ROWS = 200, 300
CAMPAIGNS, CAMPAIGN_ROWS = 1_000, 40
CONTACT_IMPORTS, CONTACT_ROWS = 6, 3_000
# The last of them takes so long that its worker is one too many before its end.
LAST_ROWS = 400_000
# How long all of it may take.
PATIENCE = 1_200


# --- what KEDA and the HPA want -----------------------------------------------------------------------------------


class Depths:
    """What KEDA would be told of a trigger."""

    def __init__(self, settings):
        self.management = settings["RABBITMQ_MANAGEMENT_URL"]
        credentials = {"endpoint_url": settings["AWS_ENDPOINT_URL"], "region_name": "us-east-1", "aws_access_key_id": "test",
                       "aws_secret_access_key": "test"}
        self.sqs = boto3.client("sqs", **credentials)
        self.url = self.sqs.get_queue_url(QueueName=settings["SQS_QUEUE_NAME"])["QueueUrl"]

    def of(self, trigger):
        if trigger["type"] == "rabbitmq":
            answer = ask(self.management + "/api/queues/%2F/" + trigger["metadata"]["queueName"])
            # Missing statistics read as 0, as KEDA reads them.
            return answer.get("messages", 0)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[one]) for one in names)


@dataclasses.dataclass
class Role:
    """A ScaledObject at work."""

    service: str
    spec: dict
    environment: dict
    workers: list = dataclasses.field(default_factory=list)
    ending: list = dataclasses.field(default_factory=list)
    wanted: list = dataclasses.field(default_factory=list)
    last_active: float = -math.inf
    last_up: float = -math.inf
    last_down: float = -math.inf
    first: float | None = None
    most: int = 0
    stopped_busy: int = 0
    stopped: int = 0

    def poll(self, depths, now):
        spec, behavior = self.spec, self.spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        least, most = spec.get("minReplicaCount", 0), spec["maxReplicaCount"]
        self.ending = [worker for worker in self.ending if not worker.ended()]
        for worker in self.workers:
            assert worker.process.poll() is None, f"a worker of {self.service} died: {worker.log}"
        active, recommended = False, 0
        count = len(self.workers)
        for trigger in spec["triggers"]:
            metadata, metric = trigger["metadata"], depths.of(trigger)
            value = float(metadata.get("value") or metadata["queueLength"])
            active |= metric > float(metadata.get("activationValue") or metadata.get("activationQueueLength"))
            exact = metric / value
            near = count and abs(exact / count - 1) <= 0.1
            recommended = max(recommended, count if near else math.ceil(exact))
        if active:
            self.last_active = now
        if count == 0 or (not active and now - self.last_active > spec["cooldownPeriod"] / SPEED):
            # KEDA itself, between nothing and one.
            self.to(max(least, 1) if active else least, now)
            return
        recommended = min(max(recommended, least, 1), most)
        window = behavior["scaleDown"]["stabilizationWindowSeconds"] / SPEED
        self.wanted = [(when, what) for when, what in self.wanted if now - when <= window] + [(now, recommended)]
        if recommended > count:
            policy = behavior["scaleUp"]["policies"][0]
            if now - self.last_up > policy["periodSeconds"] / SPEED:
                self.to(min(recommended, count + policy["value"]), now)
        elif (lower := max(what for _, what in self.wanted)) < count:
            policy = behavior["scaleDown"]["policies"][0]
            if now - self.last_down > policy["periodSeconds"] / SPEED:
                self.to(max(lower, count - policy["value"]), now)

    def to(self, count, now):
        while len(self.workers) < count:
            port = free_port()
            self.workers.append(Process(f"{self.service}-worker", port, self.environment, HOME / f"{self.service}-{port}.log"))
            self.first, self.last_up = self.first or now, now
        while len(self.workers) > count:
            # It may be any of them: the busiest is the worst.
            worker = max(self.workers, key=lambda one: one.in_hand() or 0)
            self.workers.remove(worker)
            self.stopped_busy += bool(worker.in_hand())
            self.stopped += 1
            worker.end()
            self.ending.append(worker)
            self.last_down = now
        if count != self.most and count > self.most:
            self.most = count
            say(f"{self.service}: {count} workers")


# --- what there is to do ------------------------------------------------------------------------------------------


def products(number):
    head = ["id", "nombre", "codigo", "categoria", "precio_unitario", "certificado_sanitario", "condiciones_almacenamiento",
            "tiempo_entrega_dias"]
    rows = [[f"S{number}-{row}", f"Producto {number} {row}", f"SC{number}-{row}", "Medicamentos", "12.50", "INVIMA-1",
             "Ambiente", "3"] for row in range(IMPORT_ROWS)]
    return table([head, *rows])


def contacts(number):
    first = 5_510_000_000 + number * CONTACT_ROWS
    rows = LAST_ROWS if number == CONTACT_IMPORTS - 1 else CONTACT_ROWS
    return table([["numero", "nombre"], *[[str(first + row), f"Persona {row}"] for row in range(rows)]])


def campaigns(made, day):
    folder = made.home
    (folder / "maestro.csv").write_bytes(table(
        [["id", "fecha", "nombre", "estado", "descripcion"], *[[one, day, f"C{one}", "CERRADA", ""] for one in range(1, CAMPAIGNS + 1)]]))
    (folder / "detalle.csv").write_bytes(table(
        [["id", "id_maestro", "telefono", "mensaje", "fecha_envio", "estado", "error"],
         *[[row + 1, 1 + row % CAMPAIGNS, f"+57300{row:07}", f"hola {row}", f"{day} 10:00:00", "ENVIADO", ""]
           for row in range(CAMPAIGNS * CAMPAIGN_ROWS)]]))
    made.stack("report", "load", "--maestro", folder / "maestro.csv", "--detalle", folder / "detalle.csv")


FILES = "select count(*), count(distinct campaign_id), coalesce(sum(rows), 0) from run_files where object_key is not null"
CREATED = "select coalesce(sum((result->'resumen'->>'productos_creados')::int), 0) from imports"


class Work:
    """The burst, and what became of it."""

    def __init__(self, made):
        self.made, settings = made, made.settings
        self.urls = {service: settings[f"{service}_URL"] for service in ("GATEWAY", "CATALOG_UPLOAD", "REPORT", "SMS_DISPATCH")}
        login = json.dumps({"username": settings["ADMIN_USER"], "password": settings["ADMIN_PASSWORD"]}).encode()
        self.token = ask(self.urls["GATEWAY"] + "/api/v1/auth/login", data=login,
                         headers={"Content-Type": "application/json"})["access_token"]

    def call(self, service, path, data=None, headers=None, method=None):
        # Past the gateway, whose limit of uploads a minute is not what this is about.
        return ask(self.urls[service] + path, self.token, data, headers, method)

    def begin(self, day):
        def upload(number):
            body, headers = form(f"lote-{number}.csv", products(number))
            path = "/api/v1/catalog/items/bulk-upload?proveedor_id=PROV-SCALE"
            return self.call("CATALOG_UPLOAD", path, body, headers)["task_id"]

        def contact_import(number):
            body, headers = form(f"contactos-{number}.csv", contacts(number))
            return self.call("SMS_DISPATCH", "/api/v1/contacts/imports?consent_basis=cliente", body, headers)["id"]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.imports = list(pool.map(upload, range(IMPORTS)))
            self.contacts = [contact_import(number) for number in range(CONTACT_IMPORTS)]
        wanted = json.dumps({"fecha": day.replace("-", "/"), "formato": "csv"}).encode()
        self.run = self.call("REPORT", "/api/v1/reports", wanted, {"Content-Type": "application/json"})["id"]

    def left(self):
        """How much is not done; fails where something has failed."""
        states = self.made.query("catalog-upload", "select state, count(*) from jobs group by state") \
            + self.made.query("report", "select state, count(*) from jobs group by state") \
            + self.made.query("sms-dispatch", "select state, count(*) from jobs group by state")
        bad = [line for line in states if line[0] not in ("pending", "running", "completed")]
        assert not bad, f"jobs that did not complete: {bad}"
        return sum(int(count) for state, count in states if state != "completed")

    def outcome(self):
        """Rows that are lost, and rows that are there twice."""
        run = self.call("REPORT", f"/api/v1/reports/{self.run}")
        files = self.made.query("report", FILES)[0]
        there = [int(self.made.query("catalog-upload", "select count(*) from products where proveedor_id = 'PROV-SCALE'")[0][0]),
                 int(files[1]), int(files[2]), int(self.made.query("sms-dispatch", "select count(*) from contacts")[0][0])]
        wanted = [IMPORTS * IMPORT_ROWS, CAMPAIGNS, CAMPAIGNS * CAMPAIGN_ROWS, (CONTACT_IMPORTS - 1) * CONTACT_ROWS + LAST_ROWS]
        created = int(self.made.query("catalog-upload", CREATED)[0][0])
        say(f"{there} of {wanted}; {created} products counted as created; run {run.get('estado')}")
        lost = sum(max(0, want - have) for want, have in zip(wanted, there))
        doubled = sum(max(0, have - want) for want, have in zip(wanted, there)) + int(files[0]) - int(files[1]) + abs(created - wanted[0])
        return lost, doubled


def main():
    day = (datetime.date.today() - datetime.timedelta(days=1)).isoformat()
    objects = overlay("prod")
    with platform(HOME, ("api", "simulator")) as made:
        work, depths = Work(made), Depths(made.settings)
        campaigns(made, day)
        services = {labels(item)["app.kubernetes.io/name"]: item["spec"] for item in kind(objects, "ScaledObject")}
        roles = [Role(service, spec, made.environments[f"{service}-worker"]) for service, spec in services.items()]
        assert {name(item) for item in kind(objects, "ScaledObject")} == {f"{role.service}-worker" for role in roles}
        say("the burst")
        work.begin(day)
        began, done = time.monotonic(), None
        while True:
            now = time.monotonic()
            assert now - began < PATIENCE, f"{work.left()} jobs are left after {PATIENCE} s"
            for role in roles:
                role.poll(depths, now)
            if done is None and work.left() == 0:
                done = time.monotonic()
                say("all is done")
            if done and all(len(role.workers) <= role.spec.get("minReplicaCount", 0) and not role.ending for role in roles):
                break
            time.sleep(max(0, roles[0].spec["pollingInterval"] / SPEED - (time.monotonic() - now)))
        say("nobody is left who is not needed")
        lost, doubled = work.outcome()
        for role in roles:
            print(json.dumps({"scale": f"{role.service}-worker", "first_worker_s": role.first and round(role.first - began, 1),
                              "most_workers": role.most, "bound": role.spec["maxReplicaCount"], "stopped": role.stopped,
                              "stopped_in_mid_work": role.stopped_busy,
                              "idle_at_end": len(role.workers) - role.spec.get("minReplicaCount", 0)}), flush=True)
            for worker in role.workers:
                worker.end()
        print(json.dumps({"scale": "all", "speed": SPEED, "imports": IMPORTS, "files": CAMPAIGNS, "contact_imports": CONTACT_IMPORTS,
                          "done_s": round(done - began, 1), "to_zero_s": round(time.monotonic() - done, 1), "lost": lost,
                          "doubled": doubled}), flush=True)
        found = made.doctors()
        assert (lost, doubled, found) == (0, 0, []), found


if __name__ == "__main__":
    main()
