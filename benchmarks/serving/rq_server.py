"""A peer: RQ's own SimpleWorker, with the model resident; one job at a time.

`python -m benchmarks.serving.rq_server MODEL_DIR REDIS_URL`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.serving.raw_model import RawModel
from movq_core.picture import encode_image
from movq_core.protocol import GenerateRequest

MODEL: list[RawModel] = []  # SimpleWorker calls jobs in its own process: what was loaded before is there


def generate(request: dict[str, Any]) -> bytes:
    """The job: a PNG."""
    asked = GenerateRequest.model_validate(request)
    return encode_image(MODEL[0].images([asked])[0], asked.format)


def main(model_dir: str, redis_url: str) -> None:
    # Not of `__main__`: the worker imports the job's module by its name.
    from benchmarks.serving import rq_server  # noqa: PLC0415, PLW0406

    rq_server.MODEL.append(RawModel(Path(model_dir)))
    connection = Redis.from_url(redis_url)
    SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="WARNING")


if __name__ == "__main__":
    main(*sys.argv[1:])
