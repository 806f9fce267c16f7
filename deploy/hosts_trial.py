"""`make hosts-trial`: three services and three workers that share nothing but a network, held to our docs.

Each pair has a network namespace of its own, joined to the others by a bridge, as on three hosts; Redis has
another, and moto's S3 server one more, where all blobs are. It wants root, `ip` and `redis-server`, and takes
all of it away at the end. Each line of its log is a thing that was seen to be true; the first that is not
ends it with code 1.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import httpx
from redis import Redis

SWITCH, OWN_CABLE, NETWORK = "movq-trial", "movq-trial", "10.77.0"
REDIS_HOST, S3_HOST, HOSTS = 2, 3, (11, 12, 13)
MODEL = Path("models/emoji-64")
PICTURE = MODEL / "examples" / "0.png"
RATE, OPEN_IMAGES, LEASE_S = 40, 64, 15
BODY = {"class_id": 1, "num_images": 4, "steps": 32}  # seconds, on one core


class Untrue(Exception):
    """Something that docs/many-hosts.md says was not seen."""


class Log:
    """What was seen, and when."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def say(self, text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - self._begun_s:6.1f} s] {text}\n")
        sys.stdout.flush()

    def claim(self, true: object, text: str) -> None:
        """Raises Untrue unless it is."""
        if not true:
            raise Untrue(text)
        self.say(f"  ok  {text}")


def until(true: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Seconds until it is; raises Untrue after `timeout_s`."""
    begun_s = time.monotonic()
    while not true():
        if time.monotonic() - begun_s > timeout_s:
            raise Untrue(f"not within {timeout_s} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - begun_s


def address(host: int) -> str:
    return f"{NETWORK}.{host}"


class Network:
    """Namespaces by the last number of their address, on a bridge, which this process is on, too.

    The bridge stands in a namespace as well: this machine's packet filter is none of theirs.
    """

    def __init__(self) -> None:
        self._namespaces = [SWITCH]
        ip("netns", "add", SWITCH)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        ip("link", "add", OWN_CABLE, "type", "veth", "peer", "name", "movq1", "netns", SWITCH)
        ip("-n", SWITCH, "link", "set", "movq1", "master", "bridge", "up")
        ip("addr", "add", f"{address(1)}/24", "dev", OWN_CABLE)
        ip("link", "set", OWN_CABLE, "up")

    def add(self, host: int) -> None:
        """A host that nothing runs on yet."""
        name, cable = f"{SWITCH}-{host}", f"movq{host}"
        ip("netns", "add", name)
        self._namespaces.append(name)
        ip("-n", SWITCH, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", SWITCH, "link", "set", cable, "master", "bridge", "up")
        ip("-n", name, "addr", "add", f"{address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")

    def run(
        self, host: int, command: Sequence[str], log: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process there."""
        inside = ["ip", "netns", "exec", f"{SWITCH}-{host}", *command]
        with log.open("ab") as output:
            everything = os.environ | environment
            return subprocess.Popen(inside, env=everything, stdout=output, stderr=output)  # noqa: S603

    def cut(self, host: int) -> None:
        ip("-n", SWITCH, "link", "set", f"movq{host}", "down")

    def mend(self, host: int) -> None:
        ip("-n", SWITCH, "link", "set", f"movq{host}", "up")

    def close(self) -> None:
        for name in self._namespaces:
            ip("netns", "del", name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)  # noqa: S603, S607


class Trial:
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


# -- the chapters -----------------------------------------------------------------------------------


def one_bound(trial: Trial, log: Log) -> None:
    """No worker yet: what is in stays in."""
    told = trial.ask_all(30, "bound")
    refused = [
        answer for answer in told if answer.status_code == 429 and answer.json()["code"] == "queue_full"
    ]
    log.claim(
        len(ids_of(told)) * BODY["num_images"] == OPEN_IMAGES and len(refused) == 30 - len(ids_of(told)),
        f"30 clients on 3 services: {len(ids_of(told))} jobs of 4 images are in, {len(refused)} refused: "
        f"the bound of {OPEN_IMAGES} images holds over all",
    )
    for host in HOSTS:
        trial.start_worker(host)
    seconds = until(lambda: trial.are("bound", ids_of(told)), 180, "the jobs that were in")
    log.claim(True, f"three workers come and do all of them, model loading included, in {seconds:.0f} s")


def one_job_a_key(trial: Trial, log: Log) -> None:
    told = trial.ask_all(20, "once", **{"Idempotency-Key": "the-same"})
    job_ids = set(ids_of(told))
    told_of = sum("idempotency-replayed" in answer.headers for answer in told)
    log.claim(
        len(job_ids) == 1 and told_of == 19,
        f"20 clients on 3 services, one Idempotency-Key: {len(job_ids)} job, {told_of} answers tell of it",
    )


def one_rate(trial: Trial, log: Log) -> None:
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(probe, trial, HOSTS[n % 3]) for n in range(RATE + 20)]
        told = [call.result() for call in calls]
    log.claim(
        told.count(429) == 20 and told.count(422) == RATE,
        f"{RATE + 20} calls with one key on 3 services: {RATE} were let in and 20 refused: {RATE}/minute",
    )


def probe(trial: Trial, host: int) -> int:
    """A call that counts, and makes no job: its class is none."""
    with trial.client(host, "rate") as client:
        return client.post("/v1/generations", json={"class_id": 10**6}).status_code


def one_job_everywhere(trial: Trial, log: Log) -> None:
    a, b, c = HOSTS
    (job_id,) = ids_of([trial.ask(b, "all")])
    with (
        trial.client(a, "all") as client,
        client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=60) as stream,
    ):
        events = [line.partition(": ")[2] for line in stream.iter_lines() if line.startswith("event:")]
    log.claim(
        events[-1] == "done" and "step" in events,
        f"who listens on the first host to a job of the second hears {len(events)} events, the last is done",
    )
    (job_id,) = ids_of([trial.ask(a, "all")])
    until(lambda: trial.status(b, "all", job_id) == "running", 20, "running")
    with trial.client(c, "all") as client:
        client.delete(f"/v1/jobs/{job_id}")
    seconds = until(lambda: trial.status(b, "all", job_id) == "cancelled", 10, "cancelled")
    log.claim(
        True,
        f"a job of the first host, cancelled on the third, is seen on the second to end ({seconds:.1f} s)",
    )


def all_kinds(trial: Trial, log: Log) -> None:
    """Each step on the next host; what one stores another reads."""
    a, b, c = (trial.client(host, "kinds") for host in HOSTS)
    picture, wait = {"image": PICTURE.read_bytes()}, {"prefer": "wait=30"}
    encoded = a.post("/v1/encodings", files=picture, headers=wait).json()
    codes = b.get(encoded["links"]["codes"]).json()
    decoded = c.post("/v1/decodings", json=codes, headers=wait).json()
    edited = b.post("/v1/edits", files=picture, data={"box": "0,0,16,16"}, headers=wait).json()
    rebuilt = c.post("/v1/reconstructions", files=picture, headers=wait).json()
    images = [a.get(job["images"][0]) for job in (decoded, edited, rebuilt)]
    for client in (a, b, c):
        client.close()
    log.claim(
        all(image.headers["content-type"] == "image/png" for image in images),
        "encoded, decoded, edited and reconstructed, each on another host, with all blobs on S3",
    )


def a_host_is_cut_off(trial: Trial, log: Log) -> None:
    _, b, c = HOSTS
    job_ids = ids_of(trial.ask_all(12, "cut"))
    until(lambda: trial.held(c), 30, "jobs on the third host")
    held = trial.held(c)
    trial.network.cut(c)
    log.say(f"  the third host is cut off, with {held} jobs; 12 were accepted")
    seconds = until(lambda: trial.are("cut", job_ids), 150, "all jobs, on two hosts")
    log.claim(
        True,
        f"all {len(job_ids)} are done {seconds:.0f} s later, on two hosts; the lease is {LEASE_S} s of it",
    )
    trial.network.mend(c)
    until(lambda: answers(f"http://{address(c)}:9100/metrics"), 60, "the third host")
    lost = until(lambda: trial.counter(c, "movq_leases_lost_total") >= held, 60, "lost leases")
    results = {trial.redis.xlen(f"rq:results:{job_id}") for job_id in job_ids}
    log.claim(
        results == {1},
        f"back again, its worker finds its leases lost ({lost:.1f} s) and ends none: each job has one result",
    )
    until(lambda: trial.status(c, "cut", job_ids[0]) == "succeeded", 30, "an answer of the third host")
    job_ids = ids_of(trial.ask_all(6, "cut"))
    os.kill(trial.child_of(f"service-{b}"), signal.SIGKILL)
    seconds = until(lambda: trial.are("cut", job_ids), 90, "jobs of a service that is gone")
    log.claim(
        len(job_ids) == 6,
        f"a service is killed: its jobs and the others' are done and told elsewhere ({seconds:.0f} s)",
    )


def what_s3_costs(trial: Trial, log: Log) -> None:
    """One host alone, and a second service and worker beside it with a folder instead of the bucket."""
    a = HOSTS[0]
    for host in HOSTS:
        trial.processes[f"worker-{host}"].terminate()
        trial.processes[f"worker-{host}"].wait(60)
    for name, url in (("S3", "s3://movq/blobs"), ("a folder", str(trial.folder / "blobs"))):
        port = 8000 if name == "S3" else 8001
        if port == 8001:
            trial.start_service(a, url, port)
        trial.start_worker(a, url)
        with trial.client(a, "time", port) as client:
            until(lambda: client.get("/readyz").is_success, 60, "a worker")
            body, as_png = {"class_id": 1, "steps": 4}, {"accept": "image/png"}
            taken = [timed(client, body | {"seed": seed}, as_png) for seed in range(15)][5:]
        median_ms = 1000 * statistics.median(taken)
        log.say(f"  POST /generate, 4 steps, blobs in {name}: {median_ms:.0f} ms, the median of 10")
        trial.processes[f"worker-{a}"].terminate()
        trial.processes[f"worker-{a}"].wait(60)


def timed(client: httpx.Client, body: dict[str, int], headers: dict[str, str]) -> float:
    """Seconds of a call."""
    begun_s = time.monotonic()
    if client.post("/generate", json=body, headers=headers).status_code != 200:
        raise Untrue("an image")
    return time.monotonic() - begun_s


@contextmanager
def hosts(log: Log) -> Iterator[Trial]:
    """All of it but the workers, until the block ends."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        network = Network()
        stack.callback(network.close)
        trial = Trial(network, Path(folder))
        stack.callback(trial.close)
        trial.start_stores()
        for host in HOSTS:
            network.add(host)
            trial.start_service(host)
        log.say("three services, Redis and S3 run, each in a network namespace of its own")
        try:
            yield trial
        except Untrue:
            for path in sorted(Path(folder).glob("*.log")):
                log.say(f"{path.name} ends: {path.read_text()[-2000:]}")
            raise


def main() -> int:
    """Every chapter, in order; 1 when something was not so."""
    missing = [name for name in ("ip", "redis-server") if not shutil.which(name)]
    if os.geteuid() != 0 or missing:
        sys.stderr.write(
            f"this wants root, ip and redis-server{': no ' + ', '.join(missing) if missing else ''}\n"
        )
        return 1
    log = Log()
    chapters = (
        one_bound,
        one_job_a_key,
        one_rate,
        one_job_everywhere,
        all_kinds,
        a_host_is_cut_off,
        what_s3_costs,
    )
    try:
        with hosts(log) as trial:
            for chapter in chapters:
                log.say(chapter.__name__.replace("_", " "))
                chapter(trial, log)
    except Untrue as error:
        log.say(f"NOT SO: {error}")
        return 1
    log.say("all of it is so")
    return 0


if __name__ == "__main__":
    sys.exit(main())
