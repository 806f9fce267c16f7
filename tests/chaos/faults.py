"""Faults: each is a sentence of what is done to a house, and undone at the end of its block."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from tests.chaos.house import LEASE_S, QUEUES, House, Plan, free_port, until
from tests.chaos.ledger import Ledger
from tests.chaos.trial import Act, Fault
from tests.chaos.wishes import unlucky, wishes

LONG_S = LEASE_S + 3.0  # longer than a lease
HOUR_S = 3600


# -- processes ----------------------------------------------------------------------------------


@contextmanager
def worker_killed(house: House, _: Ledger) -> Iterator[None]:
    house.workers[0].kill()
    yield


@contextmanager
def all_workers_killed(house: House, _: Ledger) -> Iterator[None]:
    for worker in house.workers:
        worker.kill()
    yield


@contextmanager
def worker_frozen(house: House, _: Ledger) -> Iterator[None]:
    house.workers[0].signal(signal.SIGSTOP)
    yield
    house.workers[0].signal(signal.SIGCONT)


@contextmanager
def worker_drained(house: House, _: Ledger) -> Iterator[None]:
    code = house.workers[0].leave(timeout_s=40)
    assert code == 0, f"a drain ends with 0, not {code}"
    yield
    house.workers[0].start()


@contextmanager
def service_killed(house: House, _: Ledger) -> Iterator[None]:
    house.service.kill()
    yield


@contextmanager
def service_moved(house: House, _: Ledger) -> Iterator[None]:
    """It stops, and comes back at another port."""
    house.service.take_down()
    yield
    house.service.env["MOVQ_PORT"] = str(free_port())
    house.service.start()


# -- Redis --------------------------------------------------------------------------------------


@contextmanager
def redis_killed(house: House, _: Ledger) -> Iterator[None]:
    house.redis.kill()
    yield
    house.wait_for_redis()


@contextmanager
def redis_away(house: House, _: Ledger) -> Iterator[None]:
    house.redis.take_down()
    yield
    house.redis.start()
    house.wait_for_redis()


@contextmanager
def redis_frozen(house: House, _: Ledger) -> Iterator[None]:
    house.redis.signal(signal.SIGSTOP)
    yield
    house.redis.signal(signal.SIGCONT)


@contextmanager
def redis_full(house: House, _: Ledger) -> Iterator[None]:
    house.client.config_set("maxmemory", "1mb")
    yield
    house.client.config_set("maxmemory", "512mb")


@contextmanager
def redis_disk_full(house: House, _: Ledger) -> Iterator[None]:
    filler = house.fill_disk("redis")
    yield
    filler.unlink()


@contextmanager
def orphan_in_between(house: House, _: Ledger) -> Iterator[None]:
    """As RQ's own way of taking leaves it: moved out of its queue, and its taker died."""

    def moved() -> bool:
        key = f"rq:queue:{QUEUES[1]}"
        return house.client.lmove(key, f"{key}:intermediate", "RIGHT", "LEFT") is not None

    until(moved, 10, "a job waits")
    yield


# -- the network --------------------------------------------------------------------------------


@contextmanager
def connection_cut(house: House, _: Ledger) -> Iterator[None]:
    """Again and again: each time in the middle of something."""
    for _ in range(20):
        house.proxies[0].cut()
        time.sleep(0.1)
    yield


@contextmanager
def connection_silent(house: House, _: Ledger) -> Iterator[None]:
    house.proxies[0].silence()
    yield
    house.proxies[0].speak()


@contextmanager
def services_connection_silent(house: House, _: Ledger) -> Iterator[None]:
    house.proxies[-1].silence()
    yield
    house.proxies[-1].speak()


@contextmanager
def redis_slow(house: House, _: Ledger) -> Iterator[None]:
    for proxy in house.proxies:
        proxy.delay(0.3)
    yield
    for proxy in house.proxies:
        proxy.delay(0.0)


# -- disks and clocks ---------------------------------------------------------------------------


@contextmanager
def blobs_refuse(house: House, _: Ledger) -> Iterator[None]:
    """Where the folder of images was, there is a file."""
    images, aside = house.blobs / "images", house.folder / "images"
    images.mkdir(exist_ok=True)
    images.rename(aside)
    images.touch()
    yield
    images.unlink()
    aside.rename(images)


@contextmanager
def blobs_full(house: House, _: Ledger) -> Iterator[None]:
    filler = house.fill_disk("blobs")
    yield
    filler.unlink()


@contextmanager
def blobs_read_only(house: House, _: Ledger) -> Iterator[None]:
    house.remount("blobs", "ro")
    yield
    house.remount("blobs", "rw")


@contextmanager
def clock_ahead(house: House, _: Ledger) -> Iterator[None]:
    house.set_clock(f"+{HOUR_S}")
    yield
    house.set_clock("+0")


@contextmanager
def clock_behind(house: House, _: Ledger) -> Iterator[None]:
    house.set_clock(f"-{HOUR_S}")
    yield
    house.set_clock("+0")


# -- jobs ---------------------------------------------------------------------------------------


@contextmanager
def cancel_races(house: House, ledger: Ledger) -> Iterator[None]:
    """Two hundred are cancelled while they wait, are taken, run, and end."""
    asked = ledger.ask_all(islice(wishes(seed=3), 200))
    for future in [ledger.cancel_soon(asking.result()) for asking in asked]:
        future.result()
    yield


@contextmanager
def worker_killed_without_redis(house: House, _: Ledger) -> Iterator[None]:
    house.redis.take_down()
    house.workers[0].kill()
    yield
    house.redis.start()
    house.wait_for_redis()


def cursed(curse: str) -> Act:
    """A device with a fault; see cursed_worker.py."""

    @contextmanager
    def act(house: House, ledger: Ledger) -> Iterator[None]:
        house.curse_path.write_text(curse)
        ledger.ask(unlucky())
        yield

    return act


# -- all of them --------------------------------------------------------------------------------

CURSED = Plan(cursed=True, worker_env={"MOVQ_STALLED_S": "3"})
SMALL_DISKS = Plan(disks={"blobs": 16, "redis": 16})
CLOCKED = Plan(clock=True)

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
]
