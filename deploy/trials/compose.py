"""`make compose-trial`: docker-compose.yml from nothing, without a GPU, held to what docs/compose.md says.

It has a project name, ports and volumes of its own, and takes all of it away at the end. Each line of its
log is a thing that was seen to be true, with the seconds since it began; the first that is not ends it with
code 1. More compose files may be named: `python -m deploy.trials.compose deploy/compose.lab.yml`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from deploy.trials.claims import Log, Untrue, until
from deploy.trials.engine import PARTS, PORTS, PROJECT, Compose, ended_at, inspect, run, size_of

FILES = ("docker-compose.yml", "deploy/compose.cpu.yml")
SERVICE_MAX_MB = 250
STOP_MAX_S = 40.0  # the worker's stop_grace_period
JOBS, IMAGES, STEPS = 40, 2, 16  # in a pile; fewer images than MOVQ_MAX_QUEUE_IMAGES
PICTURE = Path("models/emoji-64/examples/0.png")


class Pile:
    """Jobs that were accepted, and are to end well, each once."""

    def __init__(self, http: httpx.Client, first_seed: int) -> None:
        self._http = http
        bodies = [
            {"class_id": n % 8, "steps": STEPS, "num_images": IMAGES, "seed": first_seed + IMAGES * n}
            for n in range(JOBS)
        ]
        answers = [http.post("/v1/generations", json=body) for body in bodies]
        self.ids = [str(answer.raise_for_status().json()["id"]) for answer in answers]

    def documents(self) -> list[dict[str, Any]]:
        return [self._http.get(f"/v1/jobs/{name}").raise_for_status().json() for name in self.ids]

    def count(self, status: str) -> int:
        return sum(document["status"] == status for document in self.documents())

    def wait_until_running(self) -> None:
        until(lambda: self.count("running") > 1, 60, "jobs run")

    def wait_until_over(self) -> float:
        return until(lambda: self.count("queued") + self.count("running") == 0, 300, "the jobs are over")

    def images(self) -> int:
        """How many of their images can be fetched."""
        links = [link for document in self.documents() for link in document["images"]]
        return sum(self._http.get(link).content.startswith(b"\x89PNG") for link in links)


class Trial:
    """The claims, in order."""

    def __init__(self, files: Sequence[str]) -> None:
        self.log = Log()
        self.compose = Compose([*FILES, *files])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{PORTS['PORT']}", timeout=120)
        self.prometheus = httpx.Client(base_url=f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}", timeout=30)

    def run(self) -> None:
        """All of it; whatever happens, nothing stays."""
        try:
            self.builds()
            self.comes_up()
            self.is_hardened()
            before = self.serves()
            self.survives_the_death_of_its_worker()
            self.shares_the_load()
            self.survives_the_death_of_one_of_two()
            self.is_watched()
            self.stops_in_time()
            self.log.claim(
                self.generate() == before, "the same request gives the same bytes as before all that"
            )
        except Untrue:
            sys.stderr.write(self.compose("logs", "--tail", "40", "redis", "worker"))
            raise
        finally:
            self.compose("down", "--volumes", "--timeout", "40")
        left = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}")
        left += run("docker", "volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}")
        self.log.claim(not left, "taken down: no container and no volume is left")

    # -- up -------------------------------------------------------------------------------------

    def builds(self) -> None:
        self.log.say("build")
        self.compose("build", "--quiet", "service", "worker")
        images = json.loads(self.compose("config", "--format", "json"))["services"]
        for name in ("service", "worker"):
            base = images[name]["build"]["args"][f"{name.upper()}_BASE_IMAGE"]
            above_mb = (size_of(images[name]["image"]) - size_of(base)) / 1e6
            self.log.claim(
                name == "worker" or above_mb < SERVICE_MAX_MB, f"{name}: {above_mb:.0f} MB above {base}"
            )

    def comes_up(self) -> None:
        self.log.say("up, from nothing")
        ready_s = self.compose.up()
        self.log.claim(self.http.get("/readyz").status_code == 200, f"all are healthy after {ready_s:.1f} s")

    def serves(self) -> bytes:
        self.log.say("an image, and one through the codes and back")
        png = self.generate()
        self.log.claim(png.startswith(b"\x89PNG"), f"POST /generate: a PNG of {len(png)} bytes")
        answer = self.http.post("/reconstruct", files={"image": PICTURE.read_bytes()}).raise_for_status()
        figures = answer.json()["fidelity"]
        self.log.claim(figures["psnr_db"] > 20, f"POST /reconstruct: PSNR {figures['psnr_db']:.1f} dB")
        return png

    def generate(self) -> bytes:
        body = {"class_id": 0, "seed": 7, "steps": 12}
        answer = self.http.post("/generate", json=body, headers={"accept": "image/png"})
        return answer.raise_for_status().content

    # -- hard -----------------------------------------------------------------------------------

    def is_hardened(self) -> None:
        self.log.say("hardened")
        for part in PARTS:
            status = dict(
                line.split(":\t")
                for line in self.compose("exec", "-T", part, "cat", "/proc/1/status").splitlines()
                if ":\t" in line
            )
            (container,) = self.compose.containers(part)
            writes = ["docker", "exec", container, "sh", "-c", "touch /probe"]
            refused = subprocess.run(writes, capture_output=True, text=True, check=False).stderr  # noqa: S603 - our own
            self.log.claim(
                status["Uid"].split()[0] == "10001"
                and int(status["CapBnd"], 16) == 0
                and status["NoNewPrivs"] == "1"
                and "Read-only file system" in refused,
                f"{part}: uid 10001, no capability to be had, no new privileges, read-only root, "
                f"seccomp mode {status['Seccomp']}",
            )
        self.redis_is_closed()

    def redis_is_closed(self) -> None:
        (redis,) = self.compose.containers("redis")
        (service,) = self.compose.containers("service")
        told = inspect(redis)
        self.log.claim(not any(told["NetworkSettings"]["Ports"].values()), "redis: no port is published")
        answer = run("docker", "exec", redis, "redis-cli", "ping")
        self.log.claim("NOAUTH" in answer, f"redis: without its password: {answer.strip()}")
        address = told["NetworkSettings"]["Networks"][f"{PROJECT}_queue"]["IPAddress"]
        knock = (
            "import socket; socket.setdefaulttimeout(3); "
            f"print(socket.socket().connect_ex(('{address}', 6379)))"
        )
        image = inspect(service)["Config"]["Image"]
        answer = run("docker", "run", "--rm", "--network", f"{PROJECT}_front", image, "python", "-c", knock)
        self.log.claim(answer.strip() != "0", "redis: not reached from the network of the published ports")
        password = run("docker", "exec", redis, "cat", "/run/secrets/redis")
        shown = run("docker", "inspect", *self.compose("ps", "-aq").split(), image)
        self.log.claim(password not in shown, "redis: docker inspect shows its password nowhere")

    # -- whole ----------------------------------------------------------------------------------

    def ends_well(self, pile: Pile, waited_s: float) -> None:
        """Nothing lost, nothing twice, nothing left behind."""
        queue = "movq.emoji-64.normal"
        results = self.compose.redis([f"XLEN rq:results:{name}" for name in pile.ids])
        left = self.compose.redis([f"ZCARD rq:wip:{queue}", f"LLEN rq:queue:{queue}"])
        whole = pile.count("succeeded") == JOBS and pile.images() == JOBS * IMAGES
        self.log.claim(
            whole and set(results) == {"1"} and left == ["0", "0"],
            f"{JOBS} of {JOBS} accepted jobs succeeded, one result each, {JOBS * IMAGES} images there; "
            f"{waited_s:.1f} s after",
        )

    def survives_the_death_of_its_worker(self) -> None:
        self.log.say("kill -9 of the only worker's process, jobs in flight")
        pile = Pile(self.http, 1000)
        pile.wait_until_running()
        (worker,) = self.compose.containers("worker")
        self.log.say(f"      {pile.count('running')} running, {pile.count('queued')} queued")
        begun_s = time.monotonic()
        subprocess.run(["docker", "exec", worker, "sh", "-c", "kill -9 -1"], capture_output=True, check=False)  # noqa: S603, S607
        pile.wait_until_over()
        self.ends_well(pile, time.monotonic() - begun_s)
        self.log.claim(inspect(worker)["RestartCount"] == 1, "the engine had started it again by itself")

    def shares_the_load(self) -> None:
        self.log.say("--scale worker=2")
        ready_s = self.compose.up("--scale", "worker=2", "--no-recreate")
        workers = self.compose.containers("worker")
        before = [self.completed(worker) for worker in workers]
        pile = Pile(self.http, 2000)
        waited_s = pile.wait_until_over()
        shares = [self.completed(w) - b for w, b in zip(workers, before, strict=True)]
        self.log.claim(
            min(shares) >= JOBS // 5 and sum(shares) == JOBS,
            f"healthy after {ready_s:.1f} s; by their own metrics they did {shares} of {JOBS} jobs",
        )
        self.ends_well(pile, waited_s)

    def completed(self, worker: str) -> int:
        """Jobs that a worker has ended, as its metrics tell."""
        code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
        lines = self.compose.python(worker, code).splitlines()
        return sum(
            int(float(line.split()[-1])) for line in lines if line.startswith("movq_jobs_completed_total")
        )

    def survives_the_death_of_one_of_two(self) -> None:
        self.log.say("docker kill of one of two workers, jobs in flight")
        pile = Pile(self.http, 3000)
        pile.wait_until_running()
        begun_s = time.monotonic()
        run("docker", "kill", self.compose.containers("worker")[0])
        pile.wait_until_over()
        self.ends_well(pile, time.monotonic() - begun_s)
        self.log.claim(len(self.compose.containers("worker")) == 1, "the other one did that alone")

    # -- seen -----------------------------------------------------------------------------------

    def is_watched(self) -> None:
        self.log.say("prometheus, with two workers again")
        self.compose.up("--scale", "worker=2", "--no-recreate")
        expected = ["movq-retention", "movq-service", "movq-worker", "movq-worker"]
        until(
            lambda: self.targets_up() == expected,
            90,
            f"targets {expected}, up; there are {self.targets_up()}",
        )
        self.log.claim(True, f"targets up: {', '.join(expected)}")
        for query in ("sum(movq_jobs_submitted_total)", "sum(movq_images_total)"):
            answer = self.prometheus.get("/api/v1/query", params={"query": query}).raise_for_status().json()
            (sample,) = answer["data"]["result"]
            self.log.claim(float(sample["value"][1]) > 0, f"{query} = {sample['value'][1]}")

    def targets_up(self) -> list[str]:
        targets = self.prometheus.get("/api/v1/targets").raise_for_status().json()["data"]["activeTargets"]
        return sorted(t["labels"]["job"] for t in targets if t["health"] == "up")

    # -- down -----------------------------------------------------------------------------------

    def stops_in_time(self) -> None:
        self.log.say("docker compose stop, jobs in flight; then up again")
        pile = Pile(self.http, 4000)
        pile.wait_until_running()
        everyone = self.compose("ps", "-q").split()
        workers = self.compose.containers("worker")
        begun, begun_s = datetime.now(UTC), time.monotonic()
        self.compose("stop")
        stopped_s = time.monotonic() - begun_s
        codes = [inspect(container)["State"]["ExitCode"] for container in everyone]
        drains_s = [round((ended_at(worker) - begun).total_seconds(), 1) for worker in workers]
        self.log.claim(
            stopped_s < STOP_MAX_S and 137 not in codes,
            f"all stopped after {stopped_s:.1f} s, the workers after {drains_s}; nobody was killed",
        )
        ready_s = self.compose.up("--scale", "worker=2", "--no-recreate")
        self.log.say(f"      healthy again after {ready_s:.1f} s; {pile.count('queued')} were still queued")
        self.ends_well(pile, pile.wait_until_over())


def main() -> int:
    """Try it; 1 when something was not as promised."""
    try:
        Trial(sys.argv[1:]).run()
    except Untrue as error:
        sys.stderr.write(f"NOT TRUE: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
