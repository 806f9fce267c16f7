"""`python -m tests.observe`, as root: all panels and alerts against a real Prometheus and a running system.

Starts the launcher with models/emoji-64, one more worker later, and Prometheus; lets every kind of visitor
come; asks each panel's expression for data; makes the cause of each alert and waits until it fires; kills the
worker among visitors; and draws docs/pictures/dashboards.png from what Prometheus has answered. 7 minutes.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import yaml
from redis import Redis

from benchmarks.load.visitors import Visitors
from tests.conftest import free_port
from tests.deploy.dashboards import NAMES, asked_by, dashboard
from tests.deploy.promtool import PROMETHEUS
from tests.end_to_end.stack import Stack
from tests.observe.causes import (
    Watch,
    another_password,
    ask,
    decoders_killed,
    flood,
    frozen,
    nearly_full,
    other_worker,
    small_disk,
    unlucky,
    unsaved,
)
from tests.observe.picture import draw
from tests.observe.prometheus import Prometheus, prometheus

ROOT = Path(__file__).parents[2]
VISIT_S, A_SECOND = 45.0, 1.5
WITHOUT_A_CARD = {"Memory", "Memory reserved"}  # of the dashboard gpu: this machine has none


def visits(url: str, seconds: float) -> None:
    async def come() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await Visitors(client, seed=1).stay(A_SECOND, seconds)

    asyncio.run(come())


@contextmanager
def visited(stack: Stack) -> Iterator[None]:
    """Until the last visitor has gone."""
    visitors = threading.Thread(target=visits, args=(stack.url, VISIT_S))
    visitors.start()
    try:
        yield
    finally:
        visitors.join()


def empty_panels(asked: Prometheus) -> list[str]:
    """Panels of which an expression returns nothing, but for those of a card."""
    empty = []
    for name in NAMES:
        for panel in dashboard(name)["panels"]:
            if name == "gpu" and panel["title"] in WITHOUT_A_CARD:
                continue
            for target in panel["targets"]:
                if not asked.instant(asked_by(target, "30s")):
                    empty.append(f"{name}: {panel['title']}: {target['legendFormat']}")
    return empty


def images_to_scale_by(asked: Prometheus) -> float:
    """What KEDA would be told."""
    scaling = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "gpu" / "scaling.yaml").read_text())
    (trigger,) = scaling["spec"]["triggers"]
    (sample,) = asked.instant(trigger["metadata"]["query"])
    return float(sample["value"][1])


def make_causes(stack: Stack, watch: Watch, other_port: int, scrape_other: Callable[[], None]) -> None:
    """One after the other; each is over before the next begins."""
    with Redis.from_url(stack.redis_url, single_connection_client=True) as redis:
        redis.ping()
        print("Redis is nearly full", flush=True)
        with nearly_full(redis):
            watch.wait("MovqRedisMemory")
        print("Redis has another password", flush=True)
        refused = ("MovqRedisDown", "MovqHttpErrors", "MovqRedisErrors", "MovqRetentionFails")
        with another_password(redis):
            watch.wait(*refused, patience_s=60, meanwhile=lambda: ask(stack))
        print("Redis cannot write its snapshot", flush=True)
        with unsaved(stack, redis):
            watch.wait("MovqRedisNotSaving")
    print("the disk is small", flush=True)
    with small_disk(stack):
        watch.wait("MovqDiskLow")
    print("decoders are killed", flush=True)
    with decoders_killed(stack) as upload:
        watch.wait("MovqDecodersDie", meanwhile=upload)
    print("the service is frozen", flush=True)
    with frozen(stack, "service"):
        watch.wait("MovqServiceDown")
    print("flooded", flush=True)
    flood(stack)
    watch.wait("MovqSaturated", meanwhile=lambda: flood(stack, 3))
    with frozen(stack, "worker"):
        print("the worker is frozen", flush=True)
        watch.wait("MovqTargetDown", "MovqNoLiveWorker", "MovqQueueOld", patience_s=110)
        with other_worker(stack, other_port):
            scrape_other()
            watch.wait("MovqJobsRecovered", patience_s=60)
            stack.kill("worker", signal.SIGCONT)
            watch.wait("MovqLeasesLost")


def make_curses(stack: Stack, watch: Watch, other_port: int) -> None:
    """What a worker's device may do; the launcher's own worker stands still meanwhile."""
    curse_path = stack.data_dir / "curse"
    with frozen(stack, "worker"), other_worker(stack, other_port, curse_path) as cursed:
        print("images cannot be decoded", flush=True)
        curse_path.write_text("decode")
        watch.wait("MovqJobsRetried", "MovqJobsFail", patience_s=90, meanwhile=lambda: unlucky(stack))
        print("the engine stalls", flush=True)
        curse_path.write_text("stall")
        unlucky(stack)
        watch.wait("MovqStepStalled", patience_s=90)
        print("a job kills its workers", flush=True)
        curse_path.write_text("poison")
        cursed.kill()
        watch.wait("MovqJobsGivenUp", patience_s=180, meanwhile=cursed.keep)


def main() -> None:
    """Prints what was found; fails when a panel is empty or an alert does not fire."""
    port, other_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="movq-observe-") as name, ExitStack() as opened:
        folder = Path(name)
        settings = {"MOVQ_METRICS_PORT": str(port), "MOVQ_MAX_QUEUE_IMAGES": "48", "MOVQ_ROWS": "8"}
        stack = Stack(folder / "data", ROOT / "models" / "emoji-64", **settings)
        opened.callback(stack.close)
        stack.start()
        asked = opened.enter_context(prometheus(folder))
        targets = {"movq-service": [stack.port], "movq-worker": [port], "movq-retention": [port + 1]}
        asked.scrape(targets)
        begun_s = time.time()
        with visited(stack):
            time.sleep(VISIT_S - 10)
            empty = empty_panels(asked)
            print("images that workers are scaled by:", images_to_scale_by(asked), flush=True)
        print("panels without data:", empty or "none", flush=True)
        watch = Watch(asked)
        with_other = {**targets, "movq-worker": [port, other_port]}
        try:
            make_causes(stack, watch, other_port, lambda: asked.scrape(with_other))
            make_curses(stack, watch, other_port)
            with visited(stack):
                time.sleep(VISIT_S / 3)
                stack.kill("worker")  # its jobs come back while others are served
        finally:
            for alert, after_s in watch.fired.items():
                print(f"{alert} fired {after_s:.0f} s after its cause", flush=True)
            draw(asked, begun_s, ROOT / "docs" / "pictures" / "dashboards.png")
    assert not empty
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    assert watch.fired.keys() == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


if __name__ == "__main__":
    main()
