"""What holds at the public door, looked at once: the real Traefik with deploy/traefik before the real gateway.

A long upload ends well, a live event arrives at once, nobody is believed who says which address they have, and no name leads to
metrics.
"""

import http.client
import json
import ssl
import threading
import time
import uuid

from native import form, table

UPLOAD_SECONDS = 65
# Above the least pace that the gateway asks of a client.
UPLOAD_ROWS = 2_000
# Whom the upload goes through: none of them may be restarted meanwhile.
UPLOAD_WAY = ("gateway", "catalog-upload-api")
EVENTS = 5
EVENT_LIMIT_MS = 1_000
# This machine's too, and not the address of the proxies before the gateway.
CLIENT = "127.0.0.2"
FORGED = "203.0.113.9"
# The gateway's own, and below the names of each service.
METRICS = [f"{prefix}/metrics{slash}" for slash in ("", "/")
           for prefix in ("", "/api/v1/catalog", "/api/v1/reports", "/api/v1/sms", "/api/v1/etl")]
HEADER = ["id", "nombre", "codigo", "categoria", "precio_unitario", "certificado_sanitario", "condiciones_almacenamiento",
          "tiempo_entrega_dias"]
JSON = {"Content-Type": "application/json"}


def connect(port, timeout=90, address=None):
    """A connection to Traefik, whose certificate is one that it made itself."""
    source = (address, 0) if address else None
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, source_address=source,
                                       context=ssl._create_unverified_context())


def products(prefix, count):
    """A file of products, whose ids and codes begin with a prefix."""
    rows = [[f"{prefix}-{row}", f"Producto {prefix} {row}", f"C{prefix}-{row}", "Medicamentos", "12.50", "INVIMA-1", "Ambiente", "3"]
            for row in range(count)]
    return table([HEADER, *rows])


def call(port, token, method, path, body=None, headers=None, address=None):
    """The status and the text of an answer."""
    connection = connect(port, address=address)
    try:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body, bearer | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class SlowUpload(threading.Thread):
    """An upload whose body takes UPLOAD_SECONDS."""

    def __init__(self, port, token):
        super().__init__(daemon=True)
        self.port, self.token, self.answer, self.seconds = port, token, None, 0

    def run(self):
        body, headers = form("lenta.csv", products("LENTA", UPLOAD_ROWS))
        headers |= {"Content-Length": str(len(body))}
        began = time.monotonic()
        try:
            path = "/api/v1/catalog/items/bulk-upload?proveedor_id=PROV-SLOW"
            self.answer, _ = call(self.port, self.token, "POST", path, pieces(body), headers)
        except (OSError, http.client.HTTPException) as error:
            self.answer = f"{type(error).__name__}: {error}"
        self.seconds = round(time.monotonic() - began, 1)


def pieces(body):
    """A body, a piece each second."""
    size = -(-len(body) // UPLOAD_SECONDS)
    for start in range(0, len(body), size):
        time.sleep(1)
        yield body[start:start + size]


def slowest_event(port, token, sender):
    """Milliseconds from the answer that a campaign is kept to its event on an open stream: the most of EVENTS."""
    connection = connect(port, timeout=30)
    try:
        connection.request("GET", "/api/v1/stream", headers={"Authorization": f"Bearer {token}", "Accept": "text/event-stream"})
        stream = connection.getresponse()
        assert stream.status == 200, f"the stream: {stream.status}"
        # With its first line it is told of all that happens.
        assert stream.readline(), "the stream ended"
        return max(event_after(port, token, sender, number, stream) for number in range(EVENTS))
    finally:
        connection.close()


def event_after(port, token, sender, number, stream):
    plan = {"texts": [{"text": "Hola"}], "audience": {"filter": {"sample": {"size": 1}}}, "senders": [{"address": sender}]}
    draft = json.dumps({"name": f"Puerta {number}", "kind": "cobranza", "plan": plan}).encode()
    status, text = call(port, token, "POST", "/api/v1/campaigns", draft, JSON)
    answered = time.monotonic()
    assert status == 201, f"a campaign: {status} {text[:200]}"
    wanted = json.loads(text)["id"]
    # Comments keep the stream alive for ever, event or not.
    while time.monotonic() - answered < 30:
        line = stream.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: ") and wanted.encode() in line:
            return round(1000 * (time.monotonic() - answered), 1)
    raise AssertionError(f"no event of campaign {wanted}")


def address_seen(port, token):
    """The address that the audit has of a client which says that it has another."""
    nobody = json.dumps({"username": f"nadie-{uuid.uuid4().hex[:8]}", "password": uuid.uuid4().hex}).encode()
    forged = JSON | {"X-Forwarded-For": FORGED, "X-Real-Ip": FORGED}
    status, text = call(port, None, "POST", "/api/v1/auth/login", nobody, forged, address=CLIENT)
    assert status == 401, f"a login of nobody: {status} {text[:200]}"
    status, text = call(port, token, "GET", "/api/v1/audit?action=login.failed&limit=1")
    assert status == 200, f"the audit: {status} {text[:200]}"
    return json.loads(text)["items"][0]["address"]


def look(port, token, sender):
    """What is looked at before anything restarts."""
    answers = {path: call(port, token, "GET", path)[0] for path in METRICS}
    return {"event_ms": slowest_event(port, token, sender), "client_address": address_seen(port, token),
            "metrics_found": [path for path, status in answers.items() if status != 404]}


def wrong(figures):
    """What does not hold of what was seen, the upload's answer and time with it."""
    holds = {"upload": figures["upload_answer"] == 202 and figures["upload_s"] >= UPLOAD_SECONDS,
             "event": figures["event_ms"] < EVENT_LIMIT_MS, "address": figures["client_address"] == CLIENT,
             "metrics": not figures["metrics_found"]}
    return [what for what, well in holds.items() if not well]
