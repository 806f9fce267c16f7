"""Fleet: services and workers on hosts of their own, Redis and S3 on two more, and who asks them."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import httpx
from redis import Redis

from deploy.trials.claims import until
from deploy.trials.network import Network, address

REDIS_HOST, S3_HOST, HOSTS = 2, 3, (11, 12, 13)
MODEL = Path("models/emoji-64")
RATE, OPEN_IMAGES, LEASE_S = 40, 64, 15
BODY = {"class_id": 1, "num_images": 4, "steps": 32}  # seconds, on one core


class Fleet:
    """The hosts, and who asks them. `keys`: one for each chapter, so that none is kept by another's rate."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.password = secrets.token_hex(16)
        self.keys = {
            name: secrets.token_hex(16) for name in ("bound", "once", "rate", "all", "kinds", "cut", "time")
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.redis = Redis(address(REDIS_HOST), password=self.password, decode_responses=True)

    def start(self, name: str, host: int, command: Sequence[str], **environment: str) -> None:
        process = self.network.run(host, command, self.folder / f"{name}.log", **environment)
        self.processes[f"{name}-{host}"] = process

    def start_stores(self) -> None:
        """Redis, and S3 with a bucket."""
        for host in (REDIS_HOST, S3_HOST):
            self.network.add(host)
        options = [
            "--bind",
            address(REDIS_HOST),
            "--requirepass",
            self.password,
            "--save",
            "",
            "--appendonly",
            "yes",
        ]
        self.start("redis", REDIS_HOST, ["redis-server", *options, "--dir", str(self.folder)])
        self.start("s3", S3_HOST, [sys.executable, "-m", "moto.server", "-H", address(S3_HOST), "-p", "9000"])
        until(lambda: answers(f"http://{address(S3_HOST)}:9000/moto-api/"), 30, "S3")
        aws = self.aws()
        s3 = boto3.client(
            "s3",
            endpoint_url=aws["AWS_ENDPOINT_URL"],
            aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
            region_name=aws["AWS_DEFAULT_REGION"],
        )
        s3.create_bucket(Bucket="movq")

    def aws(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://{address(S3_HOST)}:9000",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def environment(self, blobs_url: str) -> dict[str, str]:
        hashed = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in self.keys.items()}
        return {
            **self.aws(),
            "OMP_NUM_THREADS": "1",
            "MOVQ_REDIS_URL": f"redis://:{self.password}@{address(REDIS_HOST)}:6379/0",
            "MOVQ_BLOBS_URL": blobs_url,
            "MOVQ_API_KEYS": ",".join(f"{name}:{digest}" for name, digest in hashed.items()),
            "MOVQ_RATE_LIMIT": f"{RATE}/minute",
            "MOVQ_MAX_QUEUE_IMAGES": str(OPEN_IMAGES),
            "MOVQ_HOST": "0.0.0.0",  # noqa: S104 - of a namespace
            "MOVQ_METRICS_HOST": "0.0.0.0",  # noqa: S104
            "MOVQ_METRICS_PORT": "9100",
            "MOVQ_ROWS": "4",
            "MOVQ_LEASE_S": str(LEASE_S),
        }

    def start_service(self, host: int, blobs_url: str = "s3://movq/blobs", port: int = 8000) -> None:
        environment = self.environment(blobs_url) | {"MOVQ_PORT": str(port)}
        self.start("service" if port == 8000 else "local-service", host, python("service"), **environment)
        until(lambda: answers(f"http://{address(host)}:{port}/livez"), 60, "a service")

    def start_worker(self, host: int, blobs_url: str = "s3://movq/blobs") -> None:
        cache = {"MOVQ_CACHE_DIR": str(self.folder / f"cache-{host}")}
        self.start("worker", host, python("worker"), **self.environment(blobs_url), **cache)

    def client(self, host: int, key: str, port: int = 8000) -> httpx.Client:
        """Who asks this host, with the key of a chapter."""
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        return httpx.Client(base_url=f"http://{address(host)}:{port}", headers=headers, timeout=60)

    def ask(self, host: int, key: str, **headers: str) -> httpx.Response:
        with self.client(host, key) as client:
            return client.post("/v1/generations", json=BODY, headers=headers)

    def ask_all(self, calls: int, key: str, **headers: str) -> list[httpx.Response]:
        """So many calls at once, on each host in turn."""
        with ThreadPoolExecutor(calls) as threads:
            asked = [threads.submit(self.ask, HOSTS[n % 3], key, **headers) for n in range(calls)]
            return [answer.result() for answer in asked]

    def status(self, host: int, key: str, job_id: str) -> str:
        with self.client(host, key) as client:
            return str(client.get(f"/v1/jobs/{job_id}").json()["status"])

    def are(self, key: str, job_ids: Sequence[str], status: str = "succeeded") -> bool:
        return all(self.status(HOSTS[0], key, job_id) == status for job_id in job_ids)

    def held(self, worker: int) -> int:
        """Jobs that Redis believes a host's worker to have."""
        pid = self.child_of(f"worker-{worker}")
        keys = [key for key in self.redis.keys("rq:worker:*:executions") if f".{pid}." in key]
        return sum(self.redis.scard(key) for key in keys)

    def child_of(self, name: str) -> int:
        """`ip netns exec` becomes the command: the same id."""
        return self.processes[name].pid

    def counter(self, host: int, metric: str) -> float:
        text = httpx.get(f"http://{address(host)}:9100/metrics", timeout=10).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric))

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def ids_of(answers_: Sequence[httpx.Response]) -> list[str]:
    return [str(answer.json()["id"]) for answer in answers_ if answer.status_code == 202]
