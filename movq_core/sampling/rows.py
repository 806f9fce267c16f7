"""Rows: what the device knows of each image in flight; written once when it starts, read by every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from movq_core.config import MaskGITConfig
from movq_core.params import MAX_STEPS, SamplingParams, UnmaskOrder
from movq_core.sampling.schedule import guidance_plan, mask_plan, noise_plan
from movq_core.sampling.step import ALL_CODES, StepRows

_INTEGERS = 5 + MAX_STEPS
_FLOATS = 2 + 2 * MAX_STEPS  # two to a word, and one to spare
_WORDS = _INTEGERS + _FLOATS // 2


class Fields(NamedTuple):
    """Views of records (..., words): what a row was started with, and the step where it stands."""

    class_id: Tensor  # (...) int64; `null_class` for none
    seed: Tensor  # (...) int64
    step: Tensor  # (...) int64: steps taken so far
    top_k: Tensor  # (...) int64; `ALL_CODES` for all
    halton: Tensor  # (...) int64: 1 where codes settle in Halton's order
    n_masked: Tensor  # (..., MAX_STEPS) int64
    temperature: Tensor  # (...) float32
    guidance_scale: Tensor  # (..., MAX_STEPS) float32
    noise_scale: Tensor  # (..., MAX_STEPS) float32


def fields_of(records: Tensor) -> Fields:
    """The fields of `records` (..., words) int64, which they share the memory of."""
    integers, floats = records[..., :_INTEGERS], records[..., _INTEGERS:].view(torch.float32)
    return Fields(
        integers[..., 0],
        integers[..., 1],
        integers[..., 2],
        integers[..., 3],
        integers[..., 4],
        integers[..., 5:],
        floats[..., 0],
        floats[..., 2 : 2 + MAX_STEPS],
        floats[..., 2 + MAX_STEPS :],
    )


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """`host` on `device`, in the order of the current stream; the host does not wait for the copy.

    From pageable memory it would wait for all that is queued. The allocator of pinned memory keeps the
    source until the copy is done.
    """
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


class Rows:
    """Codes (rows + 1, C, H, W) and a record a row, side by side on the device.

    The last row is the `scratch` row: entries that are nobody's read and write it. It has no class, and
    stands at step 0 forever. A row's record is one small block, so that a start is one copy.
    """

    def __init__(self, config: MaskGITConfig, rows: int, device: torch.device) -> None:
        self.scratch = rows
        self._config = config
        shape = (rows + 1, config.code_channels, config.grid_size, config.grid_size)
        self.codes = torch.zeros(shape, dtype=torch.int64, device=device)
        self._records = torch.zeros(rows + 1, _WORDS, dtype=torch.int64, device=device)
        self.fields = fields_of(self._records)
        self.start(self.scratch, None, SamplingParams(steps=1))

    def start(
        self, row: int, class_id: int | None, params: SamplingParams, known: Tensor | None = None
    ) -> None:
        """Fill `row` with mask codes, or with `known`, and write down what it wants.

        `known` (C, H, W) int64, on the host, has `mask_code` where the image is to be made.
        """
        masked = self._config.codebook_size
        codes = torch.full(self.codes.shape[1:], masked) if known is None else known
        record = torch.zeros(_WORDS, dtype=torch.int64)
        fields = fields_of(record)
        fields.class_id.fill_(self._config.num_classes if class_id is None else class_id)
        fields.seed.fill_(params.seed)
        plan = mask_plan(params.mask_schedule, params.steps, int((codes == masked).sum()))
        fields.n_masked[: params.steps] = torch.tensor(plan)
        fields.temperature.fill_(params.temperature)
        fields.top_k.fill_(params.top_k or ALL_CODES)
        fields.halton.fill_(params.order == UnmaskOrder.HALTON)
        fields.guidance_scale[: params.steps] = torch.tensor(guidance_plan(params))
        fields.noise_scale[: params.steps] = torch.tensor(noise_plan(params))
        self._records[row].copy_(to_device(record, self._records.device))
        self.codes[row].copy_(to_device(codes, self.codes.device))

    def step_rows(self, row: Tensor) -> StepRows:
        """What the next step of rows `row` (B,) needs to know."""
        fields, step = self.fields, self.fields.step[row]
        return StepRows(
            seed=fields.seed[row],
            step=step,
            n_masked=fields.n_masked[row, step],
            temperature=fields.temperature[row],
            noise_scale=fields.noise_scale[row, step],
            top_k=fields.top_k[row],
            halton=fields.halton[row] == 1,
        )

    def guidance_scale(self, row: Tensor) -> Tensor:
        """Scale (B,) of the next step of rows `row` (B,)."""
        return self.fields.guidance_scale[row, self.fields.step[row]]

    def write(self, row: Tensor, codes: Tensor) -> None:
        """Rows `row` (B,) have taken a step, and now hold `codes` (B, C, H, W)."""
        self.codes.index_copy_(0, row, codes)
        self.fields.step.index_copy_(0, row, self.fields.step[row] + 1)
        self.fields.step[self.scratch].zero_()
