"""Household: services, workers and senders of webhooks, as many as a test wants, each its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from movq_core.manifest import write_manifest
from tests.conftest import free_port
from tests.end_to_end.stack import until
from worker.fakes import TINY

FINAL = ("succeeded", "failed", "cancelled")


class Service:
    """One service, seen over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.http = httpx.Client(base_url=url, timeout=30)

    def lives(self) -> bool:
        try:
            return self.http.get("/livez").is_success
        except httpx.TransportError:
            return False

    def submit(self, headers: Mapping[str, str] | None = None, **body: Any) -> str:
        """Start a generation; its job's id."""
        answer = self.http.post("/v1/generations", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def status(self, job_id: str) -> str:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["status"])

    def are(self, job_ids: list[str], status: str) -> bool:
        return all(self.status(job_id) == status for job_id in job_ids)


class Household:
    """What it starts shares a blob store in `folder`, and logs there; all of it ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._clients: list[httpx.Client] = []
        write_manifest(TINY, folder / "tiny")

    def service(self, redis_url: str, **settings: str) -> Service:
        """Once it answers."""
        port = free_port()
        process = self._start("service", "service", redis_url, MOVQ_PORT=str(port), **settings)
        service = Service(process, f"http://127.0.0.1:{port}")
        self._clients.append(service.http)
        until(service.lives, 30, "a service")
        return service

    def worker(self, redis_url: str, **settings: str) -> subprocess.Popen[bytes]:
        """The real process on a fake device, where each step takes 20 ms."""
        lease = {"MOVQ_LEASE_S": "4", "MOVQ_RENEW_S": "1"}
        return self._start("worker", "tests.worker.faulty_worker", redis_url, "none", **lease | settings)

    def sender(self, redis_url: str, **settings: str) -> subprocess.Popen[bytes]:
        return self._start("webhooks", "service.webhooks", redis_url, **settings)

    def retention(self, redis_url: str) -> subprocess.Popen[bytes]:
        return self._start("retention", "service.retention", redis_url, MOVQ_RETENTION_EVERY_S="1")

    def _start(
        self, name: str, module: str, redis_url: str, *arguments: str, **settings: str
    ) -> subprocess.Popen[bytes]:
        environment = {
            "MOVQ_REDIS_URL": redis_url,
            "MOVQ_BLOBS_URL": str(self._folder / "blobs"),
            "MOVQ_MODELS": str(self._folder / "tiny"),
            **settings,
        }
        with (self._folder / f"{name}{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], env=os.environ | environment, stderr=log
            )
        self._processes.append(process)
        return process

    def logs(self) -> str:
        return "".join(path.read_text() for path in self._folder.glob("*.log"))

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.kill()
            process.wait()
