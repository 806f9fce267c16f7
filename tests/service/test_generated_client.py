"""A client that a public generator makes of our OpenAPI document talks to the service."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.service.pictures import encoded, gradient, opened
from tests.service.standin import StandIn

NAME = "generated_movq"


class Generated:
    """The generated package; `call` is one of its operations, as its users write it."""

    def __init__(self, base_url: str) -> None:
        self.client = self.module("client").Client(base_url=base_url)

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{NAME}.{name}")

    def model(self, name: str) -> Any:
        return getattr(self.module("models"), name)

    def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        return self.module(f"api.{operation}").sync_detailed(*arguments, client=self.client, **options)

    def ended(self, job: Any) -> Any:
        while job.status in ("queued", "running"):
            time.sleep(0.02)
            job = self.call("jobs.get_job", job.id).parsed
        return job


@pytest.fixture
def generated(
    client: httpx.Client, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Generated]:
    document = tmp_path / "openapi.json"
    document.write_bytes(client.get("/openapi.json").content)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    places = ["--path", str(document), "--output-path", str(tmp_path / NAME)]
    made = subprocess.run([*command, *places], check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    made_client = Generated(base_url)
    with made_client.client:
        yield made_client
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


def test_a_generated_client_makes_images_and_understands_errors(
    generated: Generated, client: httpx.Client, worker: StandIn
) -> None:
    body = generated.model("GenerationBody")(class_name="hearts", seed=7, num_images=2)
    accepted = generated.call("generations.create_generation", body=body)
    assert accepted.status_code == 202
    job = generated.ended(accepted.parsed)
    assert (job.status, len(job.images), job.seeds[0]) == ("succeeded", 2, 7)
    assert opened(client.get(job.images[0]).content).size == (64, 64)

    wrong = generated.model("GenerationBody")(class_id=99)
    refused = generated.call("generations.create_generation", body=wrong)
    assert (refused.status_code, refused.parsed.status) == (422, 422)
    assert "99" in refused.parsed.detail

    missing = generated.call("jobs.get_job", "00000000-0000-0000-0000-000000000000")
    assert (missing.status_code, missing.parsed.code) == (404, "job_not_found")


def test_a_generated_client_uploads(generated: Generated, worker: StandIn) -> None:
    file = generated.module("types").File(io.BytesIO(encoded(gradient())), "gradient.png", "image/png")
    form = generated.model("CreateReconstructionFilesBody")(image=file)
    accepted = generated.call("reconstructions.create_reconstruction", body=form)
    assert accepted.status_code == 202
    job = generated.ended(accepted.parsed)
    assert (job.status, job.width, job.height) == ("succeeded", 40, 30)
    assert job.fidelity.psnr_db > 0
