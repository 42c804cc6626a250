"""deploy/traefik by the real Traefik, before a gateway that this test plays."""

import contextlib
import gzip
import http.client
import http.server
import json
import os
import re
import ssl
import threading
import time

import pytest
import yaml

import sources
from rendering import BIN
from servers import free_port, running
from sources import ROOT


class Gateway(http.server.BaseHTTPRequestHandler):
    """Tells what it was sent; /drop hangs up on the first request of each method; /live is a stream of events."""

    protocol_version = "HTTP/1.1"
    seen = []
    hold = threading.Event()

    def answer(self):
        length = self.headers.get("content-length")
        size = 0
        if length:
            size = len(self.rfile.read(int(length)))
        elif self.headers.get("transfer-encoding") == "chunked":
            while chunk := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(chunk))
                self.rfile.readline()
            self.rfile.readline()
        self.seen.append((self.command, self.path))
        if self.path == "/drop" and self.seen.count((self.command, self.path)) == 1:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if self.path == "/live":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            self.hold.wait(10)
            return
        body = json.dumps({"size": size, "headers": {k.lower(): v for k, v in self.headers.items()}, "filler": "x" * 4000}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def gateway():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    Gateway.hold.set()
    server.shutdown()


@contextlib.contextmanager
def traefik(gateway, folder, files="", **changes):
    """Traefik as the native stack runs it: other addresses, all else as it is. Gives its port."""
    port, ping = free_port(), free_port()
    config = sources.text("deploy/traefik/traefik.yml")
    for old, new in {":8443": f"127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{ping}",
                     "/etc/traefik/dynamic": str(ROOT / "deploy/traefik/dynamic"), **changes}.items():
        assert old in config
        config = config.replace(old, new)
    # A test that ends need not wait for who hangs on.
    config = config.replace("graceTimeOut: 90s", "graceTimeOut: 0s").replace("requestAcceptGraceTimeout: 5s", "")
    (folder / "traefik.yml").write_text(config)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GATEWAY_URL": f"http://127.0.0.1:{gateway}"}
    environment |= {"S3_URL": files, "S3_BUCKET_NAME": "bucket"} if files else {}
    command = [BIN / "traefik", f"--configFile={folder}/traefik.yml"]
    with running(command, folder / "log", lambda: call(port, "GET", "/")[0] == 200, env=environment):
        yield port


@pytest.fixture(scope="module")
def proxy(gateway, tmp_path_factory):
    with traefik(gateway, tmp_path_factory.mktemp("traefik")) as port:
        yield port


def connect(port):
    # The certificate is one that Traefik made itself.
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=ssl._create_unverified_context())


def call(port, method, path, body=None, **headers):
    connection = connect(port)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()


def test_a_forged_forwarded_for_is_thrown_away(proxy):
    status, _, body = call(proxy, "GET", "/echo", X_Forwarded_For="9.9.9.9", X_Real_Ip="9.9.9.9", X_Forwarded_Proto="http")
    headers = json.loads(body)["headers"]
    assert status == 200
    assert (headers["x-forwarded-for"], headers["x-real-ip"], headers["x-forwarded-proto"]) == ("127.0.0.1", "127.0.0.1", "https")


def test_answers_are_compressed_and_streams_are_not(proxy):
    _, headers, body = call(proxy, "GET", "/echo", Accept_Encoding="gzip")
    assert headers.get("content-encoding") == "gzip" and json.loads(gzip.decompress(body))
    connection = connect(proxy)
    begun = time.monotonic()
    connection.request("GET", "/live", headers={"accept-encoding": "gzip", "accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.getheader("content-encoding") is None
    assert answer.readline() == b"data: first\n"
    assert time.monotonic() - begun < 1, "an event waited for more to come"
    connection.close()


@pytest.mark.parametrize(("method", "status", "times"), [("GET", 200, 2), ("HEAD", 200, 2), ("POST", 502, 1), ("PUT", 502, 1), ("DELETE", 502, 1)])
def test_reads_alone_are_tried_again(proxy, method, status, times):
    Gateway.seen.clear()
    answered, _, _ = call(proxy, method, "/drop", b"x" if method in ("POST", "PUT") else None)
    assert (answered, Gateway.seen.count((method, "/drop"))) == (status, times)


def test_signed_links_alone_lead_to_files(gateway, tmp_path):
    # The files' server is played by the same program here: what tells them apart is who takes what is written.
    with traefik(gateway, tmp_path, files=f"http://127.0.0.1:{gateway}") as port:
        for path, taken in (("/bucket/a?X-Amz-Signature=1", "files"), ("/bucket/a", "gateway"), ("/bucket/?list-type=2", "gateway"),
                            ("/other/a?X-Amz-Signature=1", "gateway")):
            for method in ("GET", "POST"):
                _, headers, _ = call(port, method, path)
                # The gateway's answers alone have what browsers are told about it.
                found = "gateway" if "strict-transport-security" in headers else "files"
                assert found == (taken if method == "GET" else "gateway"), (method, path)


def test_plain_http_and_old_tls_are_refused(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=10)
    Gateway.seen.clear()
    connection.request("GET", "/echo")
    assert connection.getresponse().status == 404 and Gateway.seen == []
    old = ssl._create_unverified_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        http.client.HTTPSConnection("127.0.0.1", proxy, timeout=10, context=old).request("GET", "/echo")


def upload(port, seconds):
    """Sends a byte every tenth of a second, for so long. Gives the answer's status."""
    def body():
        for _ in range(seconds * 10):
            time.sleep(0.1)
            yield b"x"

    connection = connect(port)
    connection.request("POST", "/upload", body(), {"content-type": "application/octet-stream"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status != 200 or json.loads(answer.read())["size"] == seconds * 10
    return answer.status


def test_an_upload_may_take_an_hour(proxy, gateway, tmp_path):
    config = yaml.safe_load(sources.text("deploy/traefik/traefik.yml"))
    entry = config["entryPoints"]["https"]
    assert entry["transport"]["respondingTimeouts"] == {"readTimeout": "70m", "writeTimeout": "0s", "idleTimeout": "180s"}
    assert upload(proxy, 3) == 200
    # That is the limit which counts: with another, the same upload ends before its end.
    with traefik(gateway, tmp_path, **{"readTimeout: 70m": "readTimeout: 1s"}) as hasty:
        with contextlib.suppress(ConnectionError, http.client.HTTPException, ssl.SSLError):
            assert upload(hasty, 3) != 200


def test_idle_connections_end_before_the_gateways():
    server = sources.text("crates/chassis/src/http/server.rs")

    keep = int(re.search(r"\.keep_alive\(Duration::from_secs\((\d+)\)\)", server)[1])
    found = re.search(r"idleConnTimeout: (\d+)s", sources.text("deploy/traefik/dynamic/lote.yml"))
    assert int(found[1]) < keep
