"""The live service answers as its OpenAPI document says: schemathesis, in small (in full: `make fuzz`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.service.standin import StandIn

ROOT = Path(__file__).parents[2]
OPTIONS = ("--max-examples", "5", "--generation-deterministic", "--no-color")


def test_no_answer_is_undeclared_and_none_is_a_server_error(
    base_url: str, worker: StandIn, tmp_path: Path
) -> None:
    """Examples, the bounds of each field, random bodies, and jobs followed by their links."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base_url}/openapi.json", *OPTIONS]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert worker.seen, "some jobs were made"
