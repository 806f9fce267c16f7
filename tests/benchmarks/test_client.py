"""The crowd of clients, against a real server that notes when it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Response

from benchmarks.serving.client import Answers, HTTPTarget, Plan, Refused, carry_out
from benchmarks.serving.deadlines import PATIENCE, Deadlines
from benchmarks.serving.requests import equal_requests, request_of

SLOW_S = 0.2


class Door:
    """A server whose answer to seed s are the bytes of s, `SLOW_S` later."""

    def __init__(self) -> None:
        self.asked_at_s: list[float] = []
        self.at_once = self.most_at_once = 0
        self.app = FastAPI()
        self.app.post("/generate")(self.generate)

    async def generate(self, body: dict[str, Any]) -> Response:
        self.asked_at_s.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(SLOW_S)
        self.at_once -= 1
        status_code = {666: 503, 429: 429}.get(body["seed"], 200)
        return Response(str(body["seed"]).encode(), status_code, headers={"retry-after": "7"})


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    server = uvicorn.Server(uvicorn.Config(door.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    door.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/generate"
    yield door
    server.should_exit = True
    thread.join()


def send(door: Door, **plan: Any) -> Answers:
    return asyncio.run(carry_out(Plan(target=HTTPTarget(url=door.url), **plan)))


def test_a_closed_loop_has_one_request_a_client_under_way(door: Door):
    answers = send(door, requests=equal_requests(6), clients=3)

    assert door.most_at_once == 3
    assert answers.wall_s >= 2 * SLOW_S
    assert {(a.seed, a.sha256) for a in answers.answers} == {
        (seed, hashlib.sha256(str(seed).encode()).hexdigest()) for seed in range(6)
    }
    assert all(a.took_s >= SLOW_S for a in answers.answers)


def test_an_open_loop_asks_when_it_is_time_whatever_became_of_the_others(door: Door):
    arrivals_s = [0.0, 0.05, 0.1, 0.15]

    answers = send(door, requests=equal_requests(4), arrivals_s=arrivals_s)

    assert [a.asked_s for a in answers.answers] == arrivals_s
    assert door.most_at_once == 4
    late = [asked - door.asked_at_s[0] - at for asked, at in zip(door.asked_at_s, arrivals_s, strict=True)]
    assert min(late) > -0.05


def test_a_refusal_is_no_answer(door: Door):
    with pytest.raises(RuntimeError, match="503"):
        send(door, requests=[request_of(4, seed=666)])


def test_a_refusal_is_noted_where_it_may_be(door: Door):
    requests = [request_of(4, seed=429), request_of(4, seed=1)]

    answers = send(door, requests=requests, arrivals_s=[0.0, 0.01], may_refuse=True)

    assert [answer.seed for answer in answers.answers] == [1]
    assert [refusal.retry_after_s for refusal in answers.refusals] == [7]
    assert answers.refusals[0].took_s >= SLOW_S
    with pytest.raises(Refused):
        send(door, requests=requests)


def test_what_is_late_does_not_count(door: Door):
    """An answer is late by its own request's steps."""
    answers = send(door, requests=[request_of(4, seed=1), request_of(24, seed=2)], clients=2).answers
    deadlines = Deadlines(step_s=SLOW_S / 20, rest_s=0.0)  # 4 steps: 0.2 s * PATIENCE / 5

    assert deadlines.of(4) == pytest.approx(PATIENCE * SLOW_S / 5)
    assert [deadlines.is_good(a) for a in sorted(answers, key=lambda a: a.steps)] == [False, True]
