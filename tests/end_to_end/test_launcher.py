"""`make up`'s launcher: it says what it does, restarts what dies, and leaves nothing behind."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from PIL import Image
from standardwebhooks import Webhook

from deploy.parts import worker_parts
from movq_core.bundle import ModelBundle
from movq_core.params import SamplingParams
from tests.end_to_end.stack import Stack, until
from tests.service.webhooks.receiver import receiving
from worker.fakes import TINY

pytestmark = pytest.mark.slow


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def launcher_says(**environment: str) -> str:
    """What a launcher that must refuse says; it has ended with code 1."""
    command = [sys.executable, "-m", "deploy.local"]
    ended = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_up_serves_both_kinds_of_work_and_leaves_no_process(launch: Callable[..., Stack]) -> None:
    stack = launch()
    children = stack.children()
    assert set(children) == {"redis", "worker", "service", "retention"}
    assert f"curl -X POST {stack.url}/generate" in stack.output()

    png = stack.post("/generate", json={"class_id": 1, "seed": 5}, headers={"accept": "image/png"})
    assert png.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(png.content)) as image:
        assert image.size == (16, 16)
    buffer = io.BytesIO()
    Image.new("RGB", (33, 57), "teal").save(buffer, "PNG")
    told = stack.post("/reconstruct", files={"image": ("a.png", buffer.getvalue(), "image/png")}).json()
    assert (told["width"], told["height"]) == (33, 57)
    # 33x57 pixels are padded to 9x15 cells of 4 pixels, 2 codes a cell, 5 bits a code.
    assert told["fidelity"]["codes_bytes"] == -(-9 * 15 * 2 * 5 // 8)

    assert stack.interrupt() == 0
    assert all(is_gone(pid) for pid in children.values())


def test_the_same_request_gives_the_same_bytes(launch: Callable[..., Stack]) -> None:
    stack = launch()
    body = {"class_id": 2, "seed": 11, "steps": 9}
    alone = stack.post("/generate", json=body, headers={"accept": "image/png"}).content
    crowd = stack.submit_slow(8)
    amid = stack.post("/generate", json=body, headers={"accept": "image/png"}).content
    until(lambda: set(stack.statuses(crowd)) == {"succeeded"}, 30, "the crowd is done")
    assert amid == alone


def test_a_killed_launcher_takes_everything_with_it(launch: Callable[..., Stack]) -> None:
    stack = launch()
    children = stack.children()
    assert stack.launcher is not None
    stack.launcher.kill()
    stack.launcher.wait(5)
    until(lambda: all(is_gone(pid) for pid in children.values()), 5, "they die with it")


def test_the_service_is_started_again(launch: Callable[..., Stack]) -> None:
    stack = launch()
    stack.kill("service", signal.SIGKILL)
    until(lambda: "service starts again" in stack.output(), 5, "it says so")
    until(lambda: "service" in stack.children(), 10, "it runs again")


def test_a_second_movq_on_the_same_folder_or_port_is_refused(launch: Callable[..., Stack]) -> None:
    stack = launch()
    model = {"MOVQ_MODEL_DIR": str(stack.model_dir)}
    folder = launcher_says(MOVQ_DATA_DIR=str(stack.data_dir), PORT="1", **model)
    assert "Another movq is running on" in folder
    elsewhere = str(stack.data_dir / "other")
    port = launcher_says(MOVQ_DATA_DIR=elsewhere, PORT=str(stack.port), **model)
    assert f"Cannot listen on 127.0.0.1:{stack.port}" in port
    assert f"make up PORT={stack.port + 1}" in port


@pytest.mark.parametrize("port", ["http", "0", "70000"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    assert "a number from 1 to 65535" in launcher_says(PORT=port)


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    said = launcher_says(MOVQ_MODEL_DIR=str(tmp_path / "none"), MOVQ_DATA_DIR=str(tmp_path / "data"))
    assert "There is no model in" in said


def test_a_damaged_model_ends_the_launcher_and_says_which_file(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in tiny_bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "movq.safetensors").write_bytes(b"no weights")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {"MOVQ_MODEL_DIR": str(folder), "MOVQ_DATA_DIR": str(tmp_path / "data"), "PORT": port}
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.local"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "movq.safetensors is not the file that was exported" in ended.stdout
    assert "worker cannot start; its log says why." in ended.stdout


def test_bundles_of_one_name_are_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    said = launcher_says(MOVQ_MODEL_DIR=f"{tiny_bundle},{tiny_bundle}", MOVQ_DATA_DIR=str(tmp_path / "data"))
    assert "2 of the bundles are named 'tiny'; each needs another name" in said


def test_no_bundle_at_all_is_refused(tmp_path: Path) -> None:
    said = launcher_says(MOVQ_MODEL_DIR=" , ", MOVQ_DATA_DIR=str(tmp_path / "data"))
    assert "No model is named; MOVQ_MODEL_DIR= (movq up --models) names a bundle's folder" in said


def processes(stack: Stack) -> dict[str, dict[str, str]]:
    """The environment of each of the launcher's children, by the name of its log."""
    assert stack.launcher is not None
    children = Path(f"/proc/{stack.launcher.pid}/task/{stack.launcher.pid}/children").read_text().split()
    found = {}
    for pid in children:
        log = Path(f"/proc/{pid}/fd/1").resolve()
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        found[log.stem] = dict(entry.partition("=")[::2] for entry in entries if entry)
    return found


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    ModelBundle.random(TINY.model_copy(update={"name": "other"})).save(folder)
    return folder


def test_a_bundle_is_exchanged_behind_its_symlink(
    launch: Callable[..., Stack], tiny_bundle: Path, tmp_path: Path
) -> None:
    """Service and worker go on with the new one, and neither was started again."""
    other = ModelBundle.random(TINY.model_copy(update={"sampling": SamplingParams(steps=3)}), seed=1)
    other.save(tmp_path / "other")
    (tmp_path / "served").symlink_to(tiny_bundle)
    stack = launch(MOVQ_MODEL_DIR=str(tmp_path / "served"))
    children = stack.children()

    def image() -> dict[str, Any]:
        return dict(stack.post("/generate", json={"class_id": 1, "seed": 5}).json())

    before = image()
    (tmp_path / "next").symlink_to(tmp_path / "other")
    (tmp_path / "next").rename(tmp_path / "served")
    until(lambda: image()["images"] != before["images"], 30, "the worker has the new bundle")
    until(lambda: image()["request"]["steps"] == 3, 30, "the service, too")
    assert stack.children() == children


def test_several_bundles_have_a_worker_each(
    launch: Callable[..., Stack], tiny_bundle: Path, other_bundle: Path
) -> None:
    stack = launch(MOVQ_MODEL_DIR=f"{tiny_bundle}, {other_bundle}")
    running = processes(stack)
    assert set(running) == {"redis", "worker-tiny", "worker-other", "retention", "service"}
    assert running["worker-other"]["MOVQ_MODEL_DIR"] == str(other_bundle)
    assert running["service"]["MOVQ_MODELS"] == f"{tiny_bundle},{other_bundle}"
    assert [model["name"] for model in stack.get("/v1/models").json()["models"]] == ["tiny", "other"]
    for asked, served in (({}, "tiny"), ({"model": "tiny"}, "tiny"), ({"model": "other"}, "other")):
        job = stack.post("/generate", json={"class_id": 1, "seed": 5, **asked}).json()
        assert (job["status"], job["model"]) == ("succeeded", served)
    assert stack.interrupt() == 0


def test_workers_share_the_cores_and_have_ports_of_their_own() -> None:
    bundles = {"a": Path("a"), "b": Path("b")}
    cores = len(os.sched_getaffinity(0))
    first, second = (part.env for part in worker_parts(bundles, {"MOVQ_METRICS_PORT": "9100"}))
    assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == str(max(1, cores // 2))
    assert (first["MOVQ_METRICS_PORT"], second["MOVQ_METRICS_PORT"]) == ("9100", "9101")
    (told,) = {part.env.get("OMP_NUM_THREADS") for part in worker_parts(bundles, {"OMP_NUM_THREADS": "7"})}
    assert told is None, "what the user has set stays"
    (alone,) = worker_parts({"a": Path("a")}, {})
    assert (alone.name, alone.env) == ("worker", {"MOVQ_MODEL_DIR": "a"})


def test_the_end_of_a_job_is_told_to_its_webhook_and_after_an_outage_too(
    launch: Callable[..., Stack], tmp_path: Path
) -> None:
    """To this machine by its own name: a private address, which is allowed for the test."""
    host = socket.gethostname()
    address = socket.gethostbyname(host)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    secret = f"whsec_{base64.b64encode(os.urandom(24)).decode()}"
    with receiving(authority, address, hosts=(host,)) as receiver:
        stack = launch(
            MOVQ_WEBHOOK_SECRET=secret,
            MOVQ_WEBHOOK_ALLOW=f"{address}/32",
            MOVQ_WEBHOOK_CA_FILE=str(tmp_path / "authority.pem"),
        )
        job_id = stack.submit(class_id=1, seed=5, webhook_url=receiver.url(host))
        until(lambda: receiver.received, 20, "the webhook arrives")
        told = Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
        assert (told["type"], told["data"]["id"]) == ("job.succeeded", job_id)
        assert told["data"] == stack.job(job_id)
        assert "webhooks" in processes(stack)

        stack.kill("redis")
        until(lambda: "redis starts again" in stack.output(), 10, "it is missed")
        hooked = {"class_id": 1, "webhook_url": receiver.url(host)}
        until(lambda: stack.post("/v1/generations", json=hooked).status_code == 202, 30, "it is back")
        until(lambda: len(receiver.received) == 2, 60, "the second webhook arrives")
        assert stack.interrupt() == 0
