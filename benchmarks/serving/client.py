"""The crowd of clients, in a process of its own: `python -m benchmarks.serving.client < plan > answers`.

It imports no torch and does little, for it shares the machine with what it measures.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Literal, Protocol

import httpx
from pydantic import BaseModel, Field
from redis import Redis
from rq import Queue

from movq_core.protocol import GenerateRequest

TIMEOUT_S = 600.0
RQ_FUNCTION = "benchmarks.serving.rq_server.generate"


class HTTPTarget(BaseModel):
    """A URL that answers a POST with a PNG."""

    kind: Literal["http"] = "http"
    url: str


class RQTarget(BaseModel):
    """A Redis whose default queue an RQ worker serves."""

    kind: Literal["rq"] = "rq"
    redis_url: str


class Plan(BaseModel):
    """What to ask for. A closed loop of `clients`, each with one request at a time; with `arrivals_s`, an
    open loop instead, in which request i arrives at its second, whatever became of those before.

    `may_refuse`: a 429 is noted. Any other answer than an image ends it all with an error.
    """

    target: Annotated[HTTPTarget | RQTarget, Field(discriminator="kind")]
    requests: list[GenerateRequest]
    clients: int = 1
    arrivals_s: list[float] | None = None
    may_refuse: bool = False


class Answer(BaseModel):
    """How one request fared, in seconds since the start.

    In an open loop `asked_s` is when it should have been asked.
    """

    seed: int
    steps: int
    asked_s: float
    took_s: float
    sha256: str  # of the PNG


class Refusal(BaseModel):
    """A request that was refused, in seconds since the start, and when it may come again."""

    asked_s: float
    took_s: float
    retry_after_s: int


class Answers(BaseModel):
    """`wall_s` from the first request to the last answer; `cpu_s` of the clients' own process.

    `late_s`: how late the clients asked, in an open loop, at the worst.
    """

    answers: list[Answer]
    refusals: list[Refusal] = []
    wall_s: float
    cpu_s: float
    late_s: float = 0.0


class Refused(Exception):
    """429."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"refused for {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Asker(Protocol):
    async def ask(self, request: GenerateRequest) -> bytes: ...


class HTTPAsker:
    """POSTs the body that our service and the LitServe peer both take."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def ask(self, request: GenerateRequest) -> bytes:
        body = {"class_id": request.class_id, **request.sampling.model_dump(mode="json")}
        answer = await self._client.post(self._url, json=body, headers={"accept": "image/png"})
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise Refused(int(answer.headers["retry-after"]))
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"{self._url} answered {answer.status_code}: {answer.text}")
        return answer.content


class RQAsker:
    """Enqueues, and waits blocking on the job's result stream: a thread each, for RQ is synchronous."""

    def __init__(self, queue: Queue, threads: ThreadPoolExecutor) -> None:
        self._queue = queue
        self._threads = threads

    async def ask(self, request: GenerateRequest) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, request)

    def _ask(self, request: GenerateRequest) -> bytes:
        job = self._queue.enqueue(RQ_FUNCTION, request.model_dump(mode="json"))
        result = job.latest_result(timeout=int(TIMEOUT_S))
        if result is None or result.return_value is None:
            raise RuntimeError(f"no result: {result.exc_string if result else 'timed out'}")
        return bytes(result.return_value)


@asynccontextmanager
async def asker_of(plan: Plan) -> AsyncIterator[Asker]:
    """Who asks the plan's target, with room for all that may be asked at once."""
    many = len(plan.requests) if plan.arrivals_s else plan.clients
    if isinstance(plan.target, HTTPTarget):
        limits = httpx.Limits(max_connections=many, max_keepalive_connections=many)
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as client:
            yield HTTPAsker(client, plan.target.url)
    else:
        redis = Redis.from_url(plan.target.redis_url, socket_timeout=TIMEOUT_S)
        with ThreadPoolExecutor(many) as threads, redis as connection:
            yield RQAsker(Queue(connection=connection), threads)


class Crowd:
    """Asks, and notes when and for how long."""

    def __init__(self, asker: Asker, *, may_refuse: bool) -> None:
        self._asker = asker
        self._may_refuse = may_refuse
        self._started = time.perf_counter()
        self.answers: list[Answer] = []
        self.refusals: list[Refusal] = []
        self.late_s = 0.0

    async def ask(self, request: GenerateRequest, asked_s: float | None = None) -> None:
        asked_s = self._now_s() if asked_s is None else asked_s
        try:
            png = await self._asker.ask(request)
        except Refused as refused:
            if not self._may_refuse:
                raise
            took_s = self._now_s() - asked_s
            refusal = Refusal(asked_s=asked_s, took_s=took_s, retry_after_s=refused.retry_after_s)
            self.refusals.append(refusal)
            return
        self.answers.append(
            Answer(
                seed=request.sampling.seed,
                steps=request.sampling.steps,
                asked_s=asked_s,
                took_s=self._now_s() - asked_s,
                sha256=hashlib.sha256(png).hexdigest(),
            )
        )

    async def take_turns(self, requests: Iterator[GenerateRequest]) -> None:
        """One client of a closed loop: the next request when the last is answered."""
        for request in requests:
            await self.ask(request)

    async def arrive(self, request: GenerateRequest, at_s: float) -> None:
        """One request of an open loop; the time that we are late is counted as waiting."""
        await asyncio.sleep(at_s - self._now_s())
        self.late_s = max(self.late_s, self._now_s() - at_s)
        await self.ask(request, at_s)

    def _now_s(self) -> float:
        return time.perf_counter() - self._started


async def carry_out(plan: Plan) -> Answers:
    async with asker_of(plan) as asker:
        cpu_s, started = time.process_time(), time.perf_counter()
        crowd = Crowd(asker, may_refuse=plan.may_refuse)
        if plan.arrivals_s is None:
            requests = iter(plan.requests)
            await asyncio.gather(*(crowd.take_turns(requests) for _ in range(plan.clients)))
        else:
            await asyncio.gather(*map(crowd.arrive, plan.requests, plan.arrivals_s))
        return Answers(
            answers=crowd.answers,
            refusals=crowd.refusals,
            late_s=crowd.late_s,
            wall_s=time.perf_counter() - started,
            cpu_s=time.process_time() - cpu_s,
        )


if __name__ == "__main__":
    answers = asyncio.run(carry_out(Plan.model_validate_json(sys.stdin.buffer.read())))
    sys.stdout.write(answers.model_dump_json())
