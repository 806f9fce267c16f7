"""StepRows of whatever a test cares for; the rest is what a caller gets who asks for nothing."""

import torch

from movq_core.sampling.step import ALL_CODES, StepRows


def step_rows(seed, step, n_masked, temperature, noise_scale, *, top_k=None, halton=None):
    """All (B,); without `top_k` every code may be drawn, without `halton` the confident settle first."""
    return StepRows(
        seed=seed,
        step=step,
        n_masked=n_masked,
        temperature=temperature,
        noise_scale=noise_scale,
        top_k=torch.full_like(seed, ALL_CODES) if top_k is None else top_k,
        halton=torch.zeros_like(seed, dtype=torch.bool) if halton is None else halton,
    )
