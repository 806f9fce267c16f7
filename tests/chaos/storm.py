"""`python -m tests.chaos.storm --minutes 10 [--seed N] ...`: faults at random under load.

Three workers and a service under steady custom; every few seconds a fault is drawn, whichever others last
still. In the end all is healed, and every promise is looked at. A seed repeats the faults.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from service.job import Status
from tests.chaos import faults
from tests.chaos.house import House, Plan, until
from tests.chaos.ledger import Ledger
from tests.chaos.oracle import Oracle
from tests.chaos.table import opened, scratch
from tests.chaos.trial import OVER_WITHIN_S, Act, Scene
from tests.chaos.verdict import Verdict, is_over, judge
from tests.chaos.wishes import wishes

# Retries enough for anybody: who fails here has met a fault of ours. A disk for Redis that forgets nothing.
PLAN = Plan(workers=3, retries=30, fsync="always", disks={"blobs": 256})
AS_LAUNCHED = replace(PLAN, retries=2, fsync="everysec")  # here a job that loses three workers fails
PAUSES_S = (1.0, 6.0)
CANCEL_EVERY = 12
FINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

# Two faults of one place never last at once; of two places they may. Seconds: how long it may last.
OF_A_WORKER: list[tuple[str, Act, float]] = [
    ("worker killed", faults.worker_killed, 0.0),
    ("worker frozen", faults.worker_frozen, 9.0),
    ("worker drained", faults.worker_drained, 2.0),
    ("worker's connection cut", faults.connection_cut, 0.0),
    ("worker's connection half-open", faults.connection_silent, 12.0),
]
OF_REDIS: list[tuple[str, Act, float]] = [
    ("redis killed", faults.redis_killed, 0.0),
    ("redis away", faults.redis_away, 8.0),
    ("redis frozen", faults.redis_frozen, 8.0),
    ("redis full", faults.redis_full, 6.0),
]
OF_THE_SERVICE: list[tuple[str, Act, float]] = [
    ("service killed", faults.service_killed, 0.0),
    ("service moved", faults.service_moved, 1.0),
    ("service's connection half-open", faults.services_connection_silent, 6.0),
]
OF_THE_STORE: list[tuple[str, Act, float]] = [
    ("blob store full", faults.blobs_full, 6.0),
    ("blob store read-only", faults.blobs_read_only, 6.0),
]
OF_THE_QUEUE: list[tuple[str, Act, float]] = [("orphan", faults.orphan_in_between, 0.0)]


@dataclass
class Storm:
    """Draws faults by a seed and lets them happen, each on a thread of its own."""

    house: House
    ledger: Ledger
    seed: int
    happened: int = 0
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rage(self, seconds: float) -> None:
        """Faults for so long; all of them have ended when it returns."""
        chance, begun_s = random.Random(self.seed), time.monotonic()
        places = {f"worker{n}": OF_A_WORKER for n in range(len(self.house.workers))}
        places |= {"redis": OF_REDIS, "service": OF_THE_SERVICE, "store": OF_THE_STORE, "queue": OF_THE_QUEUE}
        running: list[Future[None]] = []
        with ThreadPoolExecutor(len(places)) as threads:
            while (now_s := time.monotonic() - begun_s) < seconds:
                place = chance.choice(list(places))
                name, act, longest_s = chance.choice(places[place])
                lasts_s, pause_s = chance.uniform(0, longest_s), chance.uniform(*PAUSES_S)
                if self._claim(place):
                    print(f"{now_s:6.1f} s  {place}: {name}, {lasts_s:.1f} s", flush=True)
                    running.append(threads.submit(self._happen, place, act, lasts_s))
                time.sleep(pause_s)
        for fault in running:
            fault.result()

    def _claim(self, place: str) -> bool:
        with self._lock:
            is_free = place not in self._busy
            self._busy.add(place)
            return is_free

    def _happen(self, place: str, act: Act, lasts_s: float) -> None:
        number = int(place.removeprefix("worker")) if place.startswith("worker") else 0
        try:
            with act(Scene(self.house, self.ledger, number)):
                time.sleep(lasts_s)
            self.happened += 1
        finally:
            with self._lock:
                self._busy.discard(place)


def storm(house: House, oracle: Oracle, seed: int, seconds: float) -> tuple[Verdict, int, float]:
    """What came of it, how many faults happened, and seconds until all was over after the last."""
    ledger = Ledger(house)
    try:
        weather = Storm(house, ledger, seed)
        with ledger.custom(wishes(seed), ahead=60, cancel_every=CANCEL_EVERY):
            weather.rage(seconds)
            ended_s = time.monotonic()
        until(lambda: is_over(house, ledger), 2 * OVER_WITHIN_S, "all is over")
        recovered_s = time.monotonic() - ended_s
        house.wait_until_ready()
        return judge(house, ledger, oracle), weather.happened, recovered_s
    finally:
        ledger.close()


def main() -> int:
    """0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--as-launched", action="store_true", help="the launcher's retries and appendfsync")
    parser.add_argument("--redis", help="a server's binary, instead of the launcher's")
    options = parser.parse_args()
    plan = replace(AS_LAUNCHED if options.as_launched else PLAN, redis_binary=options.redis)
    print(f"seed {options.seed}", flush=True)
    with scratch() as (folder, oracle), opened(folder / "house", folder / "bundle", plan) as house:
        verdict, happened, recovered_s = storm(house, oracle, options.seed, 60 * options.minutes)
    counts = ", ".join(f"{verdict.ended[status]} {status}" for status in FINAL)
    print(
        f"seed {options.seed}: {happened} faults in {options.minutes:g} minutes; "
        f"{verdict.accepted} accepted: {counts}; "
        f"{verdict.ran_again} ran again; {verdict.lost} lost; all over after {recovered_s:.1f} s"
    )
    broken = list(verdict.broken)
    if not options.as_launched and verdict.ended[Status.FAILED]:
        broken.append(f"{verdict.ended[Status.FAILED]} failed, and none should")
    for sentence in broken[:50]:
        print(f"  BROKEN: {sentence}", file=sys.stderr)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
