"""What hostile clients try over HTTP: dawdling, floods, odd requests, paths that lead elsewhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from movq_core.blobs import BlobStore
from tests.conftest import free_port
from tests.service.conftest import Serve
from tests.service.pictures import encoded, gradient

PROBLEM = "application/problem+json"
PNG = {"content-type": "image/png"}


def connect(url: str | httpx.URL) -> socket.socket:
    address = urlsplit(str(url))
    return socket.create_connection((address.hostname, address.port), timeout=10)


def said(connection: socket.socket) -> bytes:
    """All that the server says until it closes the connection, or says nothing for longer than we wait."""
    answer = b""
    with suppress(TimeoutError, ConnectionResetError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def ask(url: str | httpx.URL, request: bytes, wait_s: float = 0.5) -> bytes:
    with connect(url) as connection:
        connection.settimeout(wait_s)
        connection.sendall(request)
        return said(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# -- clients that dawdle --------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: "])
def test_headers_that_do_not_come_are_not_waited_for(serve: Serve, begun: bytes) -> None:
    """A byte now and then does not help; nor does an earlier request on the same connection."""
    url = serve(client_patience_s=0.5).base_url
    for first in (b"", b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"):
        with connect(url) as connection:
            if first:
                connection.sendall(first)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            begun_s = time.monotonic()
            connection.sendall(begun)
            connection.settimeout(0.1)
            answer = b""
            while not answer and time.monotonic() - begun_s < 12:
                try:
                    connection.sendall(b"\r\n" if begun == b"\r\n" else b"a" if begun else b"")
                    answer = connection.recv(65536)
                    break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            took_s = time.monotonic() - begun_s
        assert took_s < (10 if first and not begun else 6)  # an idle connection is kept for 5 s
        if answer:
            assert status(answer) == 408
            assert b'"code": "request_timeout"' in answer


def test_a_body_that_trickles_is_not_waited_for(serve: Serve) -> None:
    client = serve(client_patience_s=0.5)
    head = b"POST /generate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    head += b"content-length: 5000\r\n\r\n"
    begun_s = time.monotonic()
    with connect(client.base_url) as connection:
        connection.settimeout(0.05)
        connection.sendall(head)
        answer = b""
        while not answer and time.monotonic() - begun_s < 12:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert status(answer) == 408
    assert "application/problem+json" in answer.decode()
    assert 0.4 < time.monotonic() - begun_s < 6


def test_a_slow_but_steady_body_is_waited_for(serve: Serve) -> None:
    """It takes longer than our patience in all, and is never silent for so long."""
    client = serve(client_patience_s=0.5)

    def body() -> Iterator[bytes]:
        image = encoded(gradient(400, 300)) + b"\0" * 60_000
        for start in range(0, len(image), len(image) // 10):
            time.sleep(0.1)
            yield image[start : start + len(image) // 10]

    answer = client.post("/v1/reconstructions", content=body(), headers={"content-type": "image/png"})
    assert answer.status_code in (202, 422), answer.text


def test_all_bodies_together_are_bounded(serve: Serve) -> None:
    """One that is under way keeps others out, and no longer than that; what is small is let in.

    One alone always fits, whatever the bound.
    """
    client = serve(max_bodies_bytes=1, max_upload_bytes=60_000)
    image = encoded(gradient(40, 30))
    head = b"POST /v1/reconstructions HTTP/1.1\r\nhost: a\r\ncontent-type: image/png\r\n"
    with connect(client.base_url) as slow:
        slow.sendall(head + b"content-length: 95000\r\n\r\n" + b"\0" * 94_999)
        time.sleep(0.3)  # it is read
        refused = client.post("/v1/reconstructions", content=image + b"\0" * 50_000, headers=PNG)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        assert refused.json()["code"] == "too_many_uploads"
        assert client.post("/v1/reconstructions", content=image, headers=PNG).status_code == 202
        slow.sendall(b"\0")
        assert status(slow.recv(65536)) == 413
    taken = client.post("/v1/reconstructions", content=image + b"\0" * 50_000, headers=PNG)
    assert taken.status_code == 202


def test_who_hangs_up_in_mid_body_is_no_error_of_ours(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in (b"application/json", b"image/png"):
        path = b"/generate" if kind.endswith(b"json") else b"/reconstruct"
        with connect(client.base_url) as connection:
            head = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: %b\r\ncontent-length: 500\r\n\r\n{" % (
                path,
                kind,
            )
            connection.sendall(head)
            time.sleep(0.1)
    time.sleep(0.2)
    assert client.get("/livez").status_code == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@contextmanager
def limited_service(redis_url: str, bundle: Path, files: int) -> Iterator[tuple[str, int]]:
    """A process that may have so many files open; its address and process id."""
    port = free_port()
    environment = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_MODELS": str(bundle),
        "MOVQ_PORT": str(port),
        "MOVQ_CLIENT_PATIENCE_S": "3",
        "MOVQ_MAX_QUEUE_IMAGES": "16",
        "PATH": "",
    }
    command = ["/bin/sh", "-c", f"ulimit -n {files} && exec {sys.executable} -m service"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            try:
                httpx.get(f"{url}/livez")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(20)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_hundreds_of_half_open_connections(redis_url: str, bundle: Path) -> None:
    """500 of them: others are served. As many as files may be open: others read 503, and soon are served."""
    files = 1024
    with limited_service(redis_url, bundle, files) as (url, pid):
        before_kib = resident_kib(pid)
        held = []
        try:
            for _ in range(500):
                held.append(connect(url))
                held[-1].sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ")
            begun_s = time.monotonic()
            assert httpx.get(f"{url}/livez").status_code == 200
            assert time.monotonic() - begun_s < 1
            assert resident_kib(pid) - before_kib < 30_000
            while len(held) < 830:  # past the limit: 1024 less what the service needs for itself
                held.append(connect(url))
            refused = httpx.get(f"{url}/livez")
            assert refused.status_code == 503
            deadline_s = time.monotonic() + 15
            while httpx.get(f"{url}/livez").status_code != 200:
                assert time.monotonic() < deadline_s
                time.sleep(0.2)
        finally:
            for connection in held:
                connection.close()


# -- headers and requests that are odd ------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nhost: a\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nhost: a\r\nx-endless: " + b"a" * 3_000_000,
    ],
)
def test_headers_have_an_end(client: httpx.Client, request_: bytes) -> None:
    with connect(client.base_url) as connection:
        connection.settimeout(2)
        with suppress(ConnectionError):  # it was told, and did not listen
            connection.sendall(request_)
        answer = said(connection)
    if answer:
        assert status(answer) in (400, 431)
        assert PROBLEM in answer.decode()
    assert client.get("/livez").status_code == 200


def test_a_request_that_two_servers_may_read_differently_is_refused(client: httpx.Client) -> None:
    """Nothing after it on the same connection is answered: it may be somebody else's."""
    smuggled = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
    for headers in (
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n",
        b"content-length: +4\r\n",
        b"content-length: 4, 4\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"content-length : 4\r\n",
        b" folded: a\r\n",
    ):
        request = b"POST /generate HTTP/1.1\r\nhost: a\r\n" + headers + b"\r\n0\r\n\r\n" + smuggled
        answer = ask(client.base_url, request)
        assert status(answer) == 400, (headers, answer)
        assert PROBLEM in answer.decode()
        assert answer.count(b"HTTP/1.1") == 1, headers


def test_no_protocol_is_changed(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """A web socket, or HTTP/2 in clear text: the request is answered as it is, and nobody complains."""
    for upgrade in (b"websocket", b"h2c"):
        head = b"GET /v1/jobs HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: " + upgrade
        answer = ask(
            client.base_url, head + b"\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        assert status(answer) == 200
    assert caplog.text == ""


def test_odd_methods_are_refused(client: httpx.Client) -> None:
    """Without an echo of what was sent."""
    secret = b"cookie: movq_key=secret\r\n"
    for method in ("TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND", "OPTIONS", "get", "MADE-UP"):
        request = f"{method} /generate HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        answer = ask(client.base_url, request.encode() + secret + b"\r\n", 5)
        assert status(answer) in (400, 405), method
        assert PROBLEM in answer.decode()
        assert b"secret" not in answer


def test_no_link_is_made_of_the_host_header(client: httpx.Client) -> None:
    for host in (b"evil.example", b"a b", b"[::1", b"evil.example/@127.0.0.1", b""):
        head = b"POST /v1/generations HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n" % host
        answer = ask(client.base_url, head + b"content-length: 2\r\nconnection: close\r\n\r\n{}", 5)
        assert status(answer) in (202, 400), host
        assert b"evil" not in answer


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/plain", 415),
        ("text/html", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json, text/html", 415),
        ("", 415),
        ("application/json; charset=utf-7", 422),
    ],
)
def test_a_body_is_what_its_content_type_says(client: httpx.Client, kind: str, expected: int) -> None:
    """A form of another site's page can send the first three without asking: none is taken for JSON."""
    answer = client.post("/generate", content=b"+AHsAfQ-", headers={"content-type": kind})
    assert answer.status_code == expected, answer.text
    assert answer.headers["content-type"] == PROBLEM


# -- paths ----------------------------------------------------------------------------------------

ELSEWHERE = [
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "..;/..;/etc/passwd",
    "%00",
    "style.css%00.png",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "../observation.py",
    "..%2fobservation.py",
    "%c0%ae%c0%ae/etc/passwd",
]


def test_no_path_leads_out_of_a_folder(client: httpx.Client) -> None:
    for folder in ("static", "docs/files", "v1/images", "v1/uploads", "v1/codes", "v1/previews"):
        for path in ELSEWHERE:
            request = f"GET /{folder}/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            answer = ask(client.base_url, request.encode(), 5)
            assert status(answer) in (400, 404), (folder, path)
            assert PROBLEM in answer.decode()
            assert b"root:" not in answer
            assert b"Observation" not in answer


def test_a_link_in_the_store_is_no_way_out(client: httpx.Client, blobs: BlobStore, tmp_path: Path) -> None:
    """Only keys are asked for; what is no key is not looked for, wherever it leads."""
    key = blobs.put("images", encoded(gradient()), "png")
    store = tmp_path / "blobs" / "images"
    (store / "passwd").symlink_to("/etc/passwd")
    (store / "out").symlink_to("/etc")
    for name in ("passwd", "out/passwd"):
        assert client.get(f"/v1/images/{name}").status_code == 404
    assert client.get(f"/v1/{key}").status_code == 200


# -- headers of answers ---------------------------------------------------------------------------


def test_every_answer_says_how_it_may_be_used(client: httpx.Client, blobs: BlobStore) -> None:
    key = blobs.put("images", encoded(gradient()), "png")
    for path in ("/", "/docs", "/livez", "/v1/models", "/nowhere", "/static/style.css", f"/v1/{key}"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert "default-src 'none'" in headers["content-security-policy"] or path == f"/v1/{key}", path
        assert "server" not in headers, path
        if headers["content-type"].startswith("text/html"):
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert headers["cross-origin-opener-policy"] == "same-origin", path
            assert "camera=()" in headers["permissions-policy"], path


def test_pages_of_allowed_origins_may_use_the_images_too(serve: Serve, blobs: BlobStore) -> None:
    key = blobs.put("images", encoded(gradient()), "png")
    client = serve(cors_origins="https://example.org")
    headers = client.get(f"/v1/{key}", headers={"origin": "https://example.org"}).headers
    assert headers["access-control-allow-origin"] == "https://example.org"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert "origin" in headers["vary"].lower()


def test_cors_gives_other_origins_nothing(serve: Serve) -> None:
    client = serve(cors_origins="https://example.org")
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for origin in ("https://evil.example", "null", "https://example.org.evil.example", "http://example.org"):
        answer = client.options("/generate", headers={"origin": origin, **preflight})
        assert "access-control-allow-origin" not in answer.headers, origin
        assert "access-control-allow-credentials" not in answer.headers
        assert (
            "access-control-allow-origin" not in client.get("/v1/models", headers={"origin": origin}).headers
        )


def test_an_id_of_the_callers_cannot_write_a_header(client: httpx.Client) -> None:
    answer = ask(client.base_url, b"GET /livez HTTP/1.1\r\nhost: a\r\nx-request-id: a\x0bb\r\n\r\n")
    assert b"a\x0bb" not in answer
    given = client.get("/livez", headers={"x-request-id": "caf\u00e9".encode()}).headers["x-request-id"]
    assert given.isascii()
    json.dumps(given)
