"""A peer: LitServe, batching the same model; batches run together until their longest request has its steps.

`python -m benchmarks.serving.litserve_server MODEL_DIR PORT [early]`
"""

# No postponed annotations here: LitServe makes the route of `decode_request`'s own.
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-untyped]
from fastapi import Response

from benchmarks.serving.raw_model import RawModel
from movq_core.params import SamplingParams
from movq_core.picture import encode_image
from movq_core.protocol import GenerateRequest
from movq_core.tiles import Pixels

MAX_BATCH_SIZE = 16  # as many as we have rows
BATCH_TIMEOUT_S = 0.01  # the wait for a batch to fill


class StaticBatches(litserve.LitAPI):  # type: ignore[misc]
    """`leave_early`: an image that has its steps is not computed further, though answered with its batch."""

    def __init__(self, model_dir: Path, *, leave_early: bool) -> None:
        super().__init__(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
        self._model_dir = model_dir
        self._leave_early = leave_early

    def setup(self, device: str) -> None:  # noqa: ARG002
        self._model = RawModel(self._model_dir)

    def decode_request(self, request: dict[str, Any]) -> GenerateRequest:
        return GenerateRequest(class_id=request.pop("class_id"), sampling=SamplingParams(**request))

    def batch(self, inputs: Sequence[GenerateRequest]) -> Sequence[GenerateRequest]:
        return inputs

    def predict(self, x: Sequence[GenerateRequest]) -> list[Pixels]:
        return self._model.images(x, self._leave_early)

    def unbatch(self, output: list[Pixels]) -> list[Pixels]:
        return output

    def encode_response(self, output: Pixels) -> Response:
        return Response(encode_image(output, GenerateRequest().format), media_type="image/png")


def main(model_dir: str, port: str, *options: str) -> None:
    api = StaticBatches(Path(model_dir), leave_early="early" in options)
    server = litserve.LitServer(api, accelerator="auto", timeout=600, track_requests=False)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
