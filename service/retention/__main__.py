"""`python -m service.retention`: removes what no job needs any longer, until told to stop.

Exit codes: 0 stopped on request; 2 it can never start as it is configured.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from pydantic import ValidationError

from movq_core.blobs import BlobStore
from movq_core.environment import complaint
from movq_core.logs import configure_logs
from service.retention.metrics import RetentionMetrics
from service.retention.records import JobRecords
from service.retention.settings import RetentionSettings
from service.retention.sweeper import Sweeper

MISCONFIGURED = 2


def main() -> int:
    """Sweep until SIGTERM or SIGINT."""
    metrics = RetentionMetrics()
    try:
        settings = RetentionSettings(_secrets_dir=os.environ.get("MOVQ_SECRETS_DIR"))
        blobs, records = BlobStore(settings.blobs_url), JobRecords(settings.redis_url)
        if settings.metrics_port:
            metrics.serve(settings.metrics_port, settings.metrics_host)
    except ValidationError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return MISCONFIGURED
    except (ValueError, OSError) as error:  # a wrong setting or URL; a port that is taken
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    configure_logs(settings.log_level)
    sweeper = Sweeper(blobs, records, settings, metrics)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        sweeper.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    sweeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
