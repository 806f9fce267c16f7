"""Choices: which form of an operation is fastest on this machine; measured once, kept in a file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from movq_core.config import MoVQConfig

TIMED_RUNS = 2

log = logging.getLogger("movq.optimized")


class Choices:
    """The chosen forms by the operation's name.

    With a `folder` they outlive the process: a worker that starts again serves the same forms, thus the same
    bytes, and measures nothing. Other weights of the same shape share them; another CPU, torch or number of
    threads does not.
    """

    def __init__(self, config: MoVQConfig, device: torch.device, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / f"forms-{_fingerprint(config, device)}.json"
        self.names: dict[str, str] = {}
        if self._path is not None and self._path.exists():
            self.names = json.loads(self._path.read_text())

    def pick(self, operation: str, forms: Sequence[str], run: Callable[[str], object]) -> str:
        """The fastest of `forms` for an operation, by `run(form)`; none is run where the choice is known."""
        if self.names.get(operation) not in forms:
            fastest = forms[0]
            if len(forms) > 1:
                fastest = min(forms, key=lambda form: seconds_of(partial(run, form)))
            self.names[operation] = fastest
        return self.names[operation]

    def save(self) -> None:
        """Write the file, if there is a folder for it; where it cannot be written, a warning."""
        if self._path is None:
            return
        draft = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(self.names, indent=1))
            draft.replace(self._path)
        except OSError as error:
            log.warning("the choice of forms cannot be kept, each start measures anew: %s", error)


def seconds_of(run: Callable[[], object]) -> float:
    """The shortest of a few runs, after one that warms (and builds); infinite for what cannot run here."""
    seconds = []
    for _ in range(1 + TIMED_RUNS):
        begun = time.perf_counter()
        try:
            run()
        except Exception as error:  # noqa: BLE001 - a compiler may be missing or broken in any way
            log.warning("a form cannot run here and is left out: %s", str(error).splitlines()[0])
            return float("inf")
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def _fingerprint(config: MoVQConfig, device: torch.device) -> str:
    """Of everything that may change which form is fastest."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    facts = [config.model_dump(mode="json"), device.type, name, torch.__version__, torch.get_num_threads()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
