"""`make up`'s launcher: it says what it does, restarts what dies, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.stack import Stack, until

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
    assert set(children) == {"redis", "worker", "service"}
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
    assert "movq.safetensors is not a safetensors file" in ended.stdout
    assert "worker cannot start; its log says why." in ended.stdout


def test_bundles_of_one_name_are_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    said = launcher_says(MOVQ_MODEL_DIR=f"{tiny_bundle},{tiny_bundle}", MOVQ_DATA_DIR=str(tmp_path / "data"))
    assert "2 of the bundles are named 'tiny'; each needs another name" in said


def test_no_bundle_at_all_is_refused(tmp_path: Path) -> None:
    said = launcher_says(MOVQ_MODEL_DIR=" , ", MOVQ_DATA_DIR=str(tmp_path / "data"))
    assert "No model is named; MOVQ_MODEL_DIR= (movq up --models) names a bundle's folder" in said
