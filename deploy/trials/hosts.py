"""`make hosts-trial`: three services and three workers that share nothing but a network, held to our docs.

Each pair has a network namespace of its own, joined to the others by a bridge, as on three hosts; Redis has
another, and moto's S3 server one more, where all blobs are. It wants root, `ip` and `redis-server`, and takes
all of it away at the end. Each line of its log is a thing that was seen to be true; the first that is not
ends it with code 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from deploy.trials.claims import Log, Untrue, until
from deploy.trials.fleet import (
    BODY,
    HOSTS,
    LEASE_S,
    MODEL,
    OPEN_IMAGES,
    RATE,
    Fleet,
    answers,
    ids_of,
)
from deploy.trials.network import Network, address

PICTURE = MODEL / "examples" / "0.png"


def one_bound(fleet: Fleet, log: Log) -> None:
    """No worker yet: what is in stays in."""
    told = fleet.ask_all(30, "bound")
    refused = [
        answer for answer in told if answer.status_code == 429 and answer.json()["code"] == "queue_full"
    ]
    log.claim(
        len(ids_of(told)) * BODY["num_images"] == OPEN_IMAGES and len(refused) == 30 - len(ids_of(told)),
        f"30 clients on 3 services: {len(ids_of(told))} jobs of 4 images are in, {len(refused)} refused: "
        f"the bound of {OPEN_IMAGES} images holds over all",
    )
    for host in HOSTS:
        fleet.start_worker(host)
    seconds = until(lambda: fleet.are("bound", ids_of(told)), 180, "the jobs that were in")
    log.claim(True, f"three workers come and do all of them, model loading included, in {seconds:.0f} s")


def one_job_a_key(fleet: Fleet, log: Log) -> None:
    told = fleet.ask_all(20, "once", **{"Idempotency-Key": "the-same"})
    job_ids = set(ids_of(told))
    told_of = sum("idempotency-replayed" in answer.headers for answer in told)
    log.claim(
        len(job_ids) == 1 and told_of == 19,
        f"20 clients on 3 services, one Idempotency-Key: {len(job_ids)} job, {told_of} answers tell of it",
    )


def one_rate(fleet: Fleet, log: Log) -> None:
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(probe, fleet, HOSTS[n % 3]) for n in range(RATE + 20)]
        told = [call.result() for call in calls]
    log.claim(
        told.count(429) == 20 and told.count(422) == RATE,
        f"{RATE + 20} calls with one key on 3 services: {RATE} were let in and 20 refused: {RATE}/minute",
    )


def probe(fleet: Fleet, host: int) -> int:
    """A call that counts, and makes no job: its class is none."""
    with fleet.client(host, "rate") as client:
        return client.post("/v1/generations", json={"class_id": 10**6}).status_code


def one_job_everywhere(fleet: Fleet, log: Log) -> None:
    a, b, c = HOSTS
    (job_id,) = ids_of([fleet.ask(b, "all")])
    with (
        fleet.client(a, "all") as client,
        client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=60) as stream,
    ):
        events = [line.partition(": ")[2] for line in stream.iter_lines() if line.startswith("event:")]
    log.claim(
        events[-1] == "done" and "step" in events,
        f"who listens on the first host to a job of the second hears {len(events)} events, the last is done",
    )
    (job_id,) = ids_of([fleet.ask(a, "all")])
    until(lambda: fleet.status(b, "all", job_id) == "running", 20, "running")
    with fleet.client(c, "all") as client:
        client.delete(f"/v1/jobs/{job_id}")
    seconds = until(lambda: fleet.status(b, "all", job_id) == "cancelled", 10, "cancelled")
    log.claim(
        True,
        f"a job of the first host, cancelled on the third, is seen on the second to end ({seconds:.1f} s)",
    )


def all_kinds(fleet: Fleet, log: Log) -> None:
    """Each step on the next host; what one stores another reads."""
    a, b, c = (fleet.client(host, "kinds") for host in HOSTS)
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


def a_host_is_cut_off(fleet: Fleet, log: Log) -> None:
    _, b, c = HOSTS
    job_ids = ids_of(fleet.ask_all(12, "cut"))
    until(lambda: fleet.held(c), 30, "jobs on the third host")
    held = fleet.held(c)
    fleet.network.cut(c)
    log.say(f"  the third host is cut off, with {held} jobs; 12 were accepted")
    seconds = until(lambda: fleet.are("cut", job_ids), 150, "all jobs, on two hosts")
    log.claim(
        True,
        f"all {len(job_ids)} are done {seconds:.0f} s later, on two hosts; the lease is {LEASE_S} s of it",
    )
    fleet.network.mend(c)
    until(lambda: answers(f"http://{address(c)}:9100/metrics"), 60, "the third host")
    lost = until(lambda: fleet.counter(c, "movq_leases_lost_total") >= held, 60, "lost leases")
    results = {fleet.redis.xlen(f"rq:results:{job_id}") for job_id in job_ids}
    log.claim(
        results == {1},
        f"back again, its worker finds its leases lost ({lost:.1f} s) and ends none: each job has one result",
    )
    until(lambda: fleet.status(c, "cut", job_ids[0]) == "succeeded", 30, "an answer of the third host")
    job_ids = ids_of(fleet.ask_all(6, "cut"))
    os.kill(fleet.child_of(f"service-{b}"), signal.SIGKILL)
    seconds = until(lambda: fleet.are("cut", job_ids), 90, "jobs of a service that is gone")
    log.claim(
        len(job_ids) == 6,
        f"a service is killed: its jobs and the others' are done and told elsewhere ({seconds:.0f} s)",
    )


def what_s3_costs(fleet: Fleet, log: Log) -> None:
    """One host alone, and a second service and worker beside it with a folder instead of the bucket."""
    a = HOSTS[0]
    for host in HOSTS:
        fleet.processes[f"worker-{host}"].terminate()
        fleet.processes[f"worker-{host}"].wait(60)
    for name, url in (("S3", "s3://movq/blobs"), ("a folder", str(fleet.folder / "blobs"))):
        port = 8000 if name == "S3" else 8001
        if port == 8001:
            fleet.start_service(a, url, port)
        fleet.start_worker(a, url)
        with fleet.client(a, "time", port) as client:
            until(lambda: client.get("/readyz").is_success, 60, "a worker")
            body, as_png = {"class_id": 1, "steps": 4}, {"accept": "image/png"}
            taken = [timed(client, body | {"seed": seed}, as_png) for seed in range(15)][5:]
        median_ms = 1000 * statistics.median(taken)
        log.say(f"  POST /generate, 4 steps, blobs in {name}: {median_ms:.0f} ms, the median of 10")
        fleet.processes[f"worker-{a}"].terminate()
        fleet.processes[f"worker-{a}"].wait(60)


def timed(client: httpx.Client, body: dict[str, int], headers: dict[str, str]) -> float:
    """Seconds of a call."""
    begun_s = time.monotonic()
    if client.post("/generate", json=body, headers=headers).status_code != 200:
        raise Untrue("an image")
    return time.monotonic() - begun_s


@contextmanager
def hosts(log: Log) -> Iterator[Fleet]:
    """All of it but the workers, until the block ends."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        network = Network()
        stack.callback(network.close)
        fleet = Fleet(network, Path(folder))
        stack.callback(fleet.close)
        fleet.start_stores()
        for host in HOSTS:
            network.add(host)
            fleet.start_service(host)
        log.say("three services, Redis and S3 run, each in a network namespace of its own")
        try:
            yield fleet
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
        with hosts(log) as fleet:
            for chapter in chapters:
                log.say(chapter.__name__.replace("_", " "))
                chapter(fleet, log)
    except Untrue as error:
        log.say(f"NOT SO: {error}")
        return 1
    log.say("all of it is so")
    return 0


if __name__ == "__main__":
    sys.exit(main())
