"""What the tables time, made ready: images through a sampler, a step of sampling, a peer's decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.card import Case
from movq_core.config import MaskGITConfig, MoVQConfig
from movq_core.params import SamplingParams
from movq_core.sampling.sampler import Sampler
from movq_core.sampling.step import ALL_CODES, StepRows


def repeat(action: Case, times: int) -> None:
    for _ in range(times):
        action()


def image_case(sampler: Sampler, images: int, guided: bool, steps: int) -> Case:
    """So many images from start to end, side by side."""
    params = SamplingParams(steps=steps, guidance_scale=3.0 if guided else 1.0)
    rows = list(range(images))

    def generate() -> None:
        for row in rows:
            sampler.start(row, row % sampler.prior.null_class, params.model_copy(update={"seed": row}))
        for step in range(steps):
            sampler.step(rows, [step] * images)

    return generate


def crowd(sampler: Sampler, numbers: Sequence[int]) -> Tensor:
    """Codes (B, C, H, W) of images of these numbers, each with its own steps, in waves that fill the rows."""
    codes = []
    for first in range(0, len(numbers), sampler.rows.scratch):
        wave = dict(enumerate(numbers[first : first + sampler.rows.scratch]))
        params = {
            row: SamplingParams(seed=number, steps=8 + number % 9, guidance_scale=1.0 + 2.0 * (number % 2))
            for row, number in wave.items()
        }
        for row, number in wave.items():
            sampler.start(row, number % sampler.prior.null_class, params[row])
        for step in range(max(p.steps for p in params.values())):
            rows = [row for row in wave if step < params[row].steps]
            sampler.step(rows, [step] * len(rows))
        codes.append(sampler.codes(list(wave)))
    return torch.cat(codes)


def device_seconds(launch: Case, times: int) -> float:
    """A launch's time on the device, of many queued one behind another."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    repeat(launch, times)
    begin.record()
    repeat(launch, times)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / times


def sampling_arguments(
    config: MaskGITConfig, images: int, device: torch.device
) -> tuple[Tensor, Tensor, int, StepRows]:
    """Random logits and codes half masked, at a step in the middle."""
    shape = (images, config.code_channels, config.grid_size, config.grid_size)
    logits = torch.randn(*shape, config.codebook_size, device=device)
    codes = torch.randint(config.codebook_size, shape, device=device)
    codes[:, :, : config.grid_size // 2] = config.codebook_size
    numbers = torch.arange(images, device=device)
    n_masked = torch.full_like(numbers, config.codes_per_image // 4)
    ones = torch.ones(images, device=device)
    all_codes, halton = torch.full_like(numbers, ALL_CODES), torch.zeros_like(numbers, dtype=torch.bool)
    rows = StepRows(numbers, numbers, n_masked, ones, ones, all_codes, halton)
    return logits, codes, config.codebook_size, rows


def diffusers_cases(config: MoVQConfig, images: int, device: torch.device) -> tuple[dict[str, Case], str]:
    """Its decoder of this shape in float32 op by op, and in bfloat16 compiled; or a sentence why not."""
    try:
        from benchmarks.import_public import build_peer  # noqa: PLC0415 - a peer may be missing
    except ModuleNotFoundError as error:
        return {}, f"{error.name} is not installed"
    shape = (images, config.z_channels, config.grid_size, config.grid_size)
    z = torch.randn(shape, device=device)
    eager, half = build_peer(config).to(device), build_peer(config).to(device, torch.bfloat16)
    compiled = torch.compile(half.decode, dynamic=False)
    return {
        "diffusers float32 eager": partial(eager.decode, z, force_not_quantize=True),
        "diffusers bfloat16 compiled": partial(compiled, z.bfloat16(), force_not_quantize=True),
    }, ""
