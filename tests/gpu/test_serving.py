"""The launcher with the demo's bundle on CUDA, over HTTP. Needs the packages of `movq[local]`.

Skipped without a GPU.
"""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from tests.end_to_end.stack import Stack, free_port, until
from worker.model_runner import ModelRunner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEMO = Path("models/emoji-64")
PICTURE = DEMO / "examples" / "0.png"


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[Stack]:
    data_dir = tmp_path_factory.mktemp("data")
    port = str(metrics_port)
    stack = Stack(data_dir, DEMO.absolute(), MOVQ_DEVICE="cuda", MOVQ_METRICS_PORT=port)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def finished(stack: Stack, job_id: str) -> dict:
    until(lambda: stack.job(job_id)["status"] in ("succeeded", "failed"), 60, f"{job_id} is over")
    return stack.job(job_id)


def test_forty_at_once_are_all_made(stack: Stack) -> None:
    with ThreadPoolExecutor(8) as clients:
        jobs = list(clients.map(lambda n: stack.submit(class_id=n % 14, steps=4 + n % 9, seed=n), range(40)))
    assert [finished(stack, job)["status"] for job in jobs] == ["succeeded"] * 40


def test_an_image_is_that_of_the_cpu_but_for_bfloat16(stack: Stack) -> None:
    """A reconstruction: no draw of the prior is between its input and its output."""
    files = {"image": ("picture.png", PICTURE.read_bytes(), "image/png")}
    answer = stack.post("/reconstruct", files=files, headers={"Accept": "image/png"})
    assert answer.status_code == 200, answer.text
    ours = pixels_of(answer.content).astype(float)
    runner = ModelRunner(DEMO, 1, "cpu")
    theirs = runner.decode(runner.encode(pixels_of(PICTURE.read_bytes()))).astype(float)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 2


def test_its_metrics_tell_of_the_card(stack: Stack, metrics_port: int) -> None:
    text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    told = {
        kind: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        for kind in ("allocated", "reserved", "total")
        if line.startswith(f'movq_gpu_memory_bytes{{type="{kind}"')
    }
    assert 0 < told["allocated"] <= told["reserved"] < told["total"]
    assert told["total"] == torch.cuda.get_device_properties(0).total_memory
