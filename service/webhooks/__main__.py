"""`python -m service.webhooks`: sends the webhooks of jobs that are over, until told to stop.

Exit codes: 0 stopped on request; 1 something died and the supervisor should start another; 2 it can never
start as it is configured.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from importlib.metadata import version

import anyio
import structlog
from anyio import to_thread
from pydantic import ValidationError

from movq_core.environment import complaint
from movq_core.errors import BundleError, TracingUnavailable
from movq_core.logs import configure_logs
from movq_core.tracing import open_tracing
from service.catalog import Catalog
from service.jobs import JobStore
from service.webhooks.deliveries import DeliveryQueue, DeliveryWorker, RetryClock
from service.webhooks.envelope import Envelopes
from service.webhooks.outbox import Outbox
from service.webhooks.sender import Sender
from service.webhooks.settings import WebhookSettings

DIED, MISCONFIGURED = 1, 2
TICK_S = 1.0

log = structlog.get_logger("movq.webhooks")


def main() -> int:
    """RQ's worker has the main thread, for its signals; the outbox and the clock have another."""
    try:
        settings = WebhookSettings(_secrets_dir=os.environ.get("MOVQ_SECRETS_DIR"))
        tracing = open_tracing("movq-webhooks", version("movq"), os.environ)
        catalog, sender = Catalog(settings.models), Sender(settings, tracing=tracing)
    except ValidationError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return MISCONFIGURED
    except (BundleError, TracingUnavailable, OSError) as error:  # OSError: no such file of certificates
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    configure_logs(settings.log_level)
    queue = DeliveryQueue.open(settings.redis_url)
    clock = RetryClock(queue)
    threading.Thread(target=run_beside, args=(settings, catalog, queue, clock), daemon=True).start()
    worker = DeliveryWorker(queue, sender, settings.webhook_attempts_at_once, settings.webhook_timeout_s)
    log.info("ready", name=worker.name)
    worker.work()
    clock.close()
    tracing.close()
    return 0 if worker.was_asked_to_stop else DIED


def run_beside(settings: WebhookSettings, catalog: Catalog, queue: DeliveryQueue, clock: RetryClock) -> None:
    """The outbox and the clock. One that dies takes the process with it: without them nothing is sent."""
    try:
        anyio.run(_beside, settings, catalog, queue, clock)
    except BaseException:
        log.critical("the outbox or the clock died", exc_info=True)
        os._exit(DIED)


async def _beside(
    settings: WebhookSettings, catalog: Catalog, queue: DeliveryQueue, clock: RetryClock
) -> None:
    envelopes = Envelopes(JobStore(settings), catalog)
    put = partial(queue.put, retry_after_s=settings.webhook_retry_after_s)
    outbox = Outbox(settings.redis_url, envelopes, put)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.run)
        while True:
            await to_thread.run_sync(clock.tick)
            await anyio.sleep(TICK_S)


if __name__ == "__main__":
    sys.exit(main())
