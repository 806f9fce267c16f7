"""Faults: each is a sentence of what is done to a house, and undone at the end of its block."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice

from redis import RedisError

from movq_client.client import Client
from movq_client.events import Event
from movq_client.retries import Retries
from tests.chaos.house import LEASE_S, QUEUES, Plan, free_port, until
from tests.chaos.ledger import Entry
from tests.chaos.trial import OVER_WITHIN_S, Act, Fault, Scene
from tests.chaos.wishes import generation, unlucky, wishes

LONG_S = LEASE_S + 3.0  # longer than a lease
HOUR_S = 3600


# -- processes ----------------------------------------------------------------------------------


@contextmanager
def worker_killed(scene: Scene) -> Iterator[None]:
    scene.worker.kill()
    yield


@contextmanager
def all_workers_killed(scene: Scene) -> Iterator[None]:
    for worker in scene.house.workers:
        worker.kill()
    yield


@contextmanager
def worker_frozen(scene: Scene) -> Iterator[None]:
    scene.worker.signal(signal.SIGSTOP)
    yield
    scene.worker.signal(signal.SIGCONT)


@contextmanager
def worker_drained(scene: Scene) -> Iterator[None]:
    code = scene.worker.leave(timeout_s=40)
    assert code in (0, -signal.SIGTERM), f"a drain ends with 0, or before anything began, not with {code}"
    yield
    scene.worker.start()


@contextmanager
def service_killed(scene: Scene) -> Iterator[None]:
    scene.house.service.kill()
    yield


@contextmanager
def service_moved(scene: Scene) -> Iterator[None]:
    """It stops, and comes back at another port."""
    scene.house.service.take_down()
    yield
    scene.house.service.env["MOVQ_PORT"] = str(free_port())
    scene.house.service.start()


@contextmanager
def service_killed_under_listeners(scene: Scene) -> Iterator[None]:
    """Each hears its job's end once, and nothing twice."""
    entries = [scene.ledger.ask(generation(seed, steps=64, num_images=4)) for seed in range(12)]
    with (
        Client(scene.house.url, retries=Retries(attempts=100)) as client,
        ThreadPoolExecutor(len(entries)) as listeners,
    ):
        heard: list[list[Event]] = [[] for _ in entries]

        def listen(entry: Entry, events: list[Event]) -> None:
            for event in client.job(entry.job_id).events(previews=False):
                events.append(event)

        listening = [listeners.submit(listen, *pair) for pair in zip(entries, heard, strict=True)]
        until(lambda: any(event.type == "step" for events in heard for event in events), 30, "steps are told")
        scene.house.service.kill()
        yield
        for future in listening:
            future.result(OVER_WITHIN_S)
    for events in heard:
        types, progress = [event.type for event in events], [event.progress for event in events]
        assert types.count("started") <= 1, types
        assert types.index("done") == len(types) - 1, types
        assert progress == sorted(progress), progress


# -- Redis --------------------------------------------------------------------------------------


@contextmanager
def redis_killed(scene: Scene) -> Iterator[None]:
    scene.house.redis.kill()
    yield
    scene.house.wait_for_redis()


@contextmanager
def redis_away(scene: Scene) -> Iterator[None]:
    scene.house.redis.take_down()
    yield
    scene.house.redis.start()
    scene.house.wait_for_redis()


@contextmanager
def redis_frozen(scene: Scene) -> Iterator[None]:
    scene.house.redis.signal(signal.SIGSTOP)
    yield
    scene.house.redis.signal(signal.SIGCONT)


@contextmanager
def redis_full(scene: Scene) -> Iterator[None]:
    scene.house.client.config_set("maxmemory", "1mb")
    yield
    scene.house.client.config_set("maxmemory", "512mb")


@contextmanager
def redis_disk_full(scene: Scene) -> Iterator[None]:
    filler = scene.house.fill_disk("redis")
    yield
    filler.unlink()


@contextmanager
def orphan_in_between(scene: Scene) -> Iterator[None]:
    """As RQ's own way of taking leaves it: moved out of its queue, and its taker died."""

    key = f"rq:queue:{QUEUES[1]}"

    def moved() -> bool:
        with suppress(RedisError):
            return scene.house.client.lmove(key, f"{key}:intermediate", "RIGHT", "LEFT") is not None
        return False

    until(moved, 30, "a job waits")
    yield


# -- the network --------------------------------------------------------------------------------


@contextmanager
def connection_cut(scene: Scene) -> Iterator[None]:
    """Again and again: each time in the middle of something."""
    for _ in range(20):
        scene.proxy.cut()
        time.sleep(0.1)
    yield


@contextmanager
def connection_silent(scene: Scene) -> Iterator[None]:
    scene.proxy.silence()
    yield
    scene.proxy.speak()


@contextmanager
def services_connection_silent(scene: Scene) -> Iterator[None]:
    scene.house.proxies[-1].silence()
    yield
    scene.house.proxies[-1].speak()


@contextmanager
def redis_slow(scene: Scene) -> Iterator[None]:
    for proxy in scene.house.proxies:
        proxy.delay(0.3)
    yield
    for proxy in scene.house.proxies:
        proxy.delay(0.0)


# -- disks and clocks ---------------------------------------------------------------------------


@contextmanager
def blobs_refuse(scene: Scene) -> Iterator[None]:
    """Where the folder of images was, there is a file."""
    images, aside = scene.house.blobs / "images", scene.house.folder / "images"
    images.mkdir(exist_ok=True)
    images.rename(aside)
    images.touch()
    yield
    images.unlink()
    aside.rename(images)


@contextmanager
def blobs_full(scene: Scene) -> Iterator[None]:
    filler = scene.house.fill_disk("blobs")
    yield
    filler.unlink()


@contextmanager
def blobs_read_only(scene: Scene) -> Iterator[None]:
    scene.house.remount("blobs", "ro")
    yield
    scene.house.remount("blobs", "rw")


@contextmanager
def clock_ahead(scene: Scene) -> Iterator[None]:
    scene.house.set_clock(f"+{HOUR_S}")
    yield
    scene.house.set_clock("+0")


@contextmanager
def clock_behind(scene: Scene) -> Iterator[None]:
    scene.house.set_clock(f"-{HOUR_S}")
    yield
    scene.house.set_clock("+0")


# -- jobs ---------------------------------------------------------------------------------------


@contextmanager
def cancel_races(scene: Scene) -> Iterator[None]:
    """Two hundred are cancelled while they wait, are taken, run, and end."""
    asked = scene.ledger.ask_all(islice(wishes(seed=3), 200))
    for future in [scene.ledger.cancel_soon(asking.result()) for asking in asked]:
        future.result()
    yield


@contextmanager
def worker_killed_without_redis(scene: Scene) -> Iterator[None]:
    scene.house.redis.take_down()
    scene.worker.kill()
    yield
    scene.house.redis.start()
    scene.house.wait_for_redis()


def cursed(curse: str) -> Act:
    """A device with a fault; see cursed_worker.py."""

    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        scene.house.curse_path.write_text(curse)
        scene.ledger.ask(unlucky())
        yield

    return act


# -- all of them --------------------------------------------------------------------------------

CURSED = Plan(cursed=True, worker_env={"MOVQ_STALLED_S": "3"})
SMALL_DISKS = Plan(disks={"blobs": 16, "redis": 16})
TWO_DOORS = Plan(services=2)
CLOCKED = Plan(clock="worker0")
REDIS_CLOCKED = Plan(clock="redis")

# Cheap enough for every test run: one house, and nobody need be root.
QUICK = [
    Fault("service killed (kill -9)", service_killed, held_s=1, runs_again=False),
    Fault("Redis killed (kill -9)", redis_killed, held_s=1, runs_again=False),
    Fault("a worker's connection cut (RST), 20 times", connection_cut, runs_again=False),
    Fault("blob store that takes nothing", blobs_refuse, held_s=2, runs_again=False),
    Fault("worker killed (kill -9)", worker_killed),
]
FAULTS = [
    *QUICK,
    Fault("all workers killed (kill -9)", all_workers_killed, held_s=2),
    Fault("Redis away, shorter than a lease", redis_away, held_s=2, runs_again=False),
    Fault("Redis away, longer than a lease", redis_away, held_s=LONG_S, runs_again=False),
    Fault("Redis frozen, longer than a lease (SIGSTOP)", redis_frozen, held_s=LONG_S, runs_again=False),
    Fault("one worker frozen, longer than its lease (SIGSTOP)", worker_frozen, held_s=LONG_S),
    Fault("worker drained under load (SIGTERM)", worker_drained, runs_again=False),
    Fault("a worker's connection half-open", connection_silent, held_s=LONG_S + 4),
    Fault("the service's connection half-open", services_connection_silent, held_s=8, runs_again=False),
    Fault("Redis slow (300 ms each way)", redis_slow, held_s=8),
    Fault("service at another port while jobs run", service_moved, held_s=1, runs_again=False),
    Fault("one of two services killed (kill -9)", service_killed, held_s=1, plan=TWO_DOORS, runs_again=False),
    Fault("service killed under 12 listeners", service_killed_under_listeners, held_s=1, runs_again=False),
    Fault("an orphan between two lists", orphan_in_between, runs_again=False),
    Fault("200 cancels", cancel_races, runs_again=False),
    Fault("worker killed while Redis is away", worker_killed_without_redis, held_s=LONG_S),
    Fault("blob store full", blobs_full, held_s=4, plan=SMALL_DISKS, runs_again=False),
    Fault("blob store read-only", blobs_read_only, held_s=4, plan=SMALL_DISKS, runs_again=False),
    Fault("Redis out of memory", redis_full, held_s=2, plan=SMALL_DISKS, runs_again=False),
    Fault("Redis out of memory, for long", redis_full, held_s=LONG_S, plan=SMALL_DISKS, runs_again=False),
    Fault("the AOF's disk full", redis_disk_full, held_s=LONG_S, plan=SMALL_DISKS, runs_again=False),
    Fault("a CUDA fault", cursed("device"), plan=CURSED),
    Fault("the engine stalls", cursed("stall"), plan=CURSED),
    Fault("an image that cannot be decoded", cursed("decode"), plan=CURSED, failures=1),
    Fault("a job that kills its workers", cursed("poison"), plan=CURSED, failures=1),
    Fault("a worker's clock an hour ahead", clock_ahead, held_s=6, plan=CLOCKED, runs_again=False),
    Fault("a worker's clock an hour behind", clock_behind, held_s=6, plan=CLOCKED, runs_again=False),
    Fault("Redis' clock an hour ahead", clock_ahead, held_s=6, plan=REDIS_CLOCKED),
    Fault("Redis' clock an hour behind", clock_behind, held_s=6, plan=REDIS_CLOCKED),
]
