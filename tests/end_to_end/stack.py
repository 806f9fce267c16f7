"""Stack: the launcher and its three processes, seen as a user and as a murderer see them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.results import Result

from movq_core.protocol import Priority, queue_name

QUEUES = [queue_name("tiny", priority) for priority in Priority]
FINAL = ("succeeded", "failed", "cancelled")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Seconds until `true()`; fails the test after `timeout_s`."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() - begun_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begun_s


class Stack:
    """`python -m deploy.local` on its own port and data folder."""

    def __init__(self, data_dir: Path, model_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.model_dir = model_dir
        self.port = int(environment.pop("PORT", "") or free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            "PORT": str(self.port),
            "MOVQ_DATA_DIR": str(data_dir),
            "MOVQ_MODEL_DIR": str(model_dir),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.launcher: subprocess.Popen[str] | None = None
        self._http = httpx.Client(base_url=self.url, timeout=30)

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait until the launcher says that it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.output_path.open("w") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "deploy.local"], env=self._environment, stdout=output, stderr=output
            )
        until(lambda: "movq is ready" in self.output() or self.code() is not None, 60, "ready")
        assert self.code() is None, self.output()

    @property
    def output_path(self) -> Path:
        return self.data_dir / "terminal.txt"

    def output(self) -> str:
        """What the terminal shows."""
        return self.output_path.read_text()

    def code(self) -> int | None:
        assert self.launcher is not None
        return self.launcher.poll()

    def interrupt(self) -> int:
        """Ctrl-C; the launcher's exit code."""
        assert self.launcher is not None
        self.launcher.send_signal(signal.SIGINT)
        return self.launcher.wait(60)

    def close(self) -> None:
        self._http.close()
        if self.launcher is not None and self.code() is None:
            self.launcher.send_signal(signal.SIGTERM)
            self.launcher.wait(60)

    # -- its processes --------------------------------------------------------------------------

    def children(self) -> dict[str, int]:
        """Process ids of redis, worker, service and retention, by what they run."""
        assert self.launcher is not None
        path = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children")
        found = {}
        for pid in path.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
            _, is_ours, module = command.strip().partition("-m ")
            found[module.removeprefix("service.") if is_ours else "redis"] = int(pid)
        return found

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.children()[name], number)

    @contextmanager
    def second_worker(self) -> Iterator[None]:
        """One more worker, beside the launcher's; terminated at the end."""
        environ = Path(f"/proc/{self.children()['worker']}/environ").read_bytes().decode()
        env = dict(entry.partition("=")[::2] for entry in environ.split("\0") if entry)
        worker = subprocess.Popen([sys.executable, "-m", "worker"], env=env, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            worker.terminate()
            worker.wait(60)

    def log(self, name: str) -> str:
        return (self.data_dir / "logs" / f"{name}.log").read_text()

    # -- its jobs -------------------------------------------------------------------------------

    def submit(self, **body: Any) -> str:
        """Start a generation; the id of its job."""
        answer = self._http.post("/v1/generations", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def submit_slow(self, count: int) -> list[str]:
        """Jobs that take some seconds together, on two rows."""
        return [self.submit(class_id=n % 3, steps=64, num_images=4, seed=n) for n in range(count)]

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self._http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def statuses(self, job_ids: list[str]) -> list[str]:
        return [self.job(job_id)["status"] for job_id in job_ids]

    def cancel(self, job_id: str) -> None:
        assert self._http.delete(f"/v1/jobs/{job_id}").status_code in (200, 202)

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._http.post(path, **options)

    # -- what Redis holds -----------------------------------------------------------------------

    @property
    def redis_url(self) -> str:
        environ = Path(f"/proc/{self.children()['service']}/environ").read_bytes().split(b"\0")
        return next(e for e in environ if e.startswith(b"MOVQ_REDIS_URL=")).decode().partition("=")[2]

    def in_flight(self) -> int:
        with Redis.from_url(self.redis_url) as redis:
            return sum(int(redis.zcard(f"rq:wip:{queue}")) for queue in QUEUES)

    def queued(self) -> int:
        with Redis.from_url(self.redis_url) as redis:
            lists = [f"rq:queue:{queue}{end}" for queue in QUEUES for end in ("", ":intermediate")]
            return sum(int(redis.llen(key)) for key in lists)

    def is_watched(self, job_id: str) -> bool:
        with Redis.from_url(self.redis_url) as redis:
            return bool(redis.exists(f"movq:watchers:{job_id}"))

    def assert_at_rest(self, job_ids: list[str]) -> None:
        """One result each, nothing in flight, nothing between two lists."""
        with Redis.from_url(self.redis_url) as redis:
            for job_id in job_ids:
                assert Result.count(Job.fetch(job_id, redis, "json")) == 1
            for queue in (Queue(name, connection=redis, serializer="json") for name in QUEUES):
                assert redis.zcard(queue.started_job_registry.key) == 0
                assert redis.llen(queue.intermediate_queue_key) == 0
                assert queue.count == 0

    def retries_left(self, job_ids: list[str]) -> set[int | None]:
        with Redis.from_url(self.redis_url) as redis:
            return {Job.fetch(job_id, redis, "json").retries_left for job_id in job_ids}

    def rq_info(self) -> str:
        """What an operator sees."""
        command = [sys.executable, "-m", "rq.cli", "info", "--url", self.redis_url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
