"""Images that want everything there is to want, of the tiny bundle's classes and codes."""

import torch

from movq_core.params import GuidanceSchedule, MaskSchedule, SamplingParams, UnmaskOrder
from worker.fakes import TINY


def random_params(rng):
    return SamplingParams(
        steps=rng.randint(1, 12),
        seed=rng.randrange(2**53),
        temperature=rng.uniform(0.5, 1.5),
        choice_temperature=rng.uniform(0.0, 5.0),
        guidance_scale=rng.choice([0.0, 1.0, 1.0, 2.5, 4.0]),
        guidance_schedule=rng.choice(list(GuidanceSchedule)),
        mask_schedule=rng.choice(list(MaskSchedule)),
        order=rng.choice(list(UnmaskOrder)),
        top_k=rng.choice([None, None, 1, 3, 31, 32, 1000]),
    )


def random_class(rng):
    return rng.choice([None, 0, 1, 2])


def random_known(rng, config=TINY.movq):
    """Codes (C, H, W) of which none, some or all are masked; or None, which is all of them."""
    share = rng.choice([None, 0.0, 0.1, 0.5, 0.9])
    if share is None:
        return None
    shape = (config.code_channels, config.grid_size, config.grid_size)
    size = config.codebook_size
    codes = [rng.randrange(size) if rng.random() >= share else size for _ in range(torch.Size(shape).numel())]
    return torch.tensor(codes).view(shape)
