"""Visit: a crowd sent to a server, and what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.serving.client import Answer, Answers, Plan, Refusal
from benchmarks.serving.servers import Server
from movq_core.protocol import GenerateRequest


@dataclass(frozen=True)
class Visit:
    """The answers of one crowd, and the CPU seconds that they took each part of the server."""

    answers: tuple[Answer, ...]
    wall_s: float
    cpu_s: Mapping[str, float]
    refusals: tuple[Refusal, ...] = ()
    late_s: float = 0.0

    @property
    def images_a_second(self) -> float:
        return len(self.answers) / self.wall_s

    @property
    def took_s(self) -> list[float]:
        return [answer.took_s for answer in self.answers]

    def latency_s(self, share: float) -> float:
        """What `share` of the answers took at most: 0.95 is p95."""
        return float(np.quantile(self.took_s, share))

    @property
    def images(self) -> set[tuple[int, str]]:
        """Which image each seed gave."""
        return {(answer.seed, answer.sha256) for answer in self.answers}

    def cpu_ms_an_image(self) -> dict[str, float]:
        return {part: 1000 * seconds / len(self.answers) for part, seconds in self.cpu_s.items()}


def visit(
    server: Server,
    requests: Sequence[GenerateRequest],
    clients: int = 1,
    arrivals_s: list[float] | None = None,
    *,
    may_refuse: bool = False,
) -> Visit:
    """A closed loop of `clients`, or with `arrivals_s` an open loop.

    Raises subprocess.CalledProcessError when a request fails, or is refused and may not be; the client says
    why.
    """
    plan = Plan(
        target=server.target,
        requests=list(requests),
        clients=clients,
        arrivals_s=arrivals_s,
        may_refuse=may_refuse,
    )
    # The server goes first: clients on a machine of their own would take nothing from it.
    command = ["nice", sys.executable, "-m", "benchmarks.serving.client"]
    with server.awake():
        before = CPUTimes.of(server)
        output = subprocess.run(  # noqa: S603 - ours
            command, input=plan.model_dump_json().encode(), stdout=subprocess.PIPE, check=True
        ).stdout
        cpu_s = CPUTimes.of(server).since(before)
    answers = Answers.model_validate_json(output)
    return Visit(
        tuple(answers.answers),
        answers.wall_s,
        {**cpu_s, "clients": answers.cpu_s},
        tuple(answers.refusals),
        answers.late_s,
    )


@dataclass(frozen=True)
class CPUTimes:
    """CPU seconds of each part of a server so far, and of the threads of its worker."""

    parts: Mapping[str, float]
    threads: Mapping[int, float]

    @classmethod
    def of(cls, server: Server) -> CPUTimes:
        parts = {
            part: sum(sum(process.cpu_times()[:2]) for process in processes)
            for part, processes in server.processes.items()
        }
        threads = {
            thread.id: thread.user_time + thread.system_time
            for process in server.processes.get("worker", [])
            for thread in process.threads()
        }
        return cls(parts, threads)

    def since(self, before: CPUTimes) -> dict[str, float]:
        """Seconds by part. The worker's are in two: the threads that torch computes with are its busiest."""
        spent = {part: seconds - before.parts[part] for part, seconds in self.parts.items()}
        threads = (seconds - before.threads.get(number, 0.0) for number, seconds in self.threads.items())
        if "worker" in spent:
            busiest = sum(sorted(threads)[-torch.get_num_threads() :])
            spent["worker, beside the engine"] = spent.pop("worker") - busiest
            spent["worker's engine"] = busiest
        return spent
