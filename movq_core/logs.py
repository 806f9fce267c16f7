"""Logs: one JSON object a line on stderr, ours and the libraries' alike.

JSON escapes what a caller could break a line or a terminal with. Nobody logs a body, an image, a key, an
Authorization header, a query or a webhook's URL; `tests/end_to_end/test_observability.py` looks for them.
"""

from __future__ import annotations

import logging
import sys

import structlog

OURS = "movq"  # all our loggers' names begin with it


def configure_logs(level: str) -> None:
    """Send every log line of this process to stderr; called once, by each `__main__`.

    DEBUG is of our own loggers: libraries would tell the headers of their requests, signatures included. RQ
    tells three lines about every job, in other words than ours: of it, warnings are enough.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    libraries = "INFO" if level == "DEBUG" else level
    logging.basicConfig(level=libraries, handlers=[handler], force=True)
    logging.getLogger(OURS).setLevel(level)
    logging.getLogger("rq").setLevel("ERROR" if level == "ERROR" else "WARNING")
