"""SamplingParams: what a caller may choose about one generated image; EditParams: about an edit."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MAX_STEPS = 64
MAX_TOP_K = 2**16
MAX_SEED = 2**53 - 1  # the largest integer that JavaScript's JSON.parse keeps exact


class MaskSchedule(StrEnum):
    """How the share of masked codes falls from 1 to 0 over the steps."""

    COSINE = "cosine"
    ARCCOS = "arccos"
    LINEAR = "linear"


class UnmaskOrder(StrEnum):
    """Which codes settle first.

    confidence: those that the prior is surest of, with noise (Chang et al. 2022). halton: spread evenly over
    the image by a low-discrepancy sequence, whatever the prior says (Besnier et al. 2025).
    """

    CONFIDENCE = "confidence"
    HALTON = "halton"


class GuidanceSchedule(StrEnum):
    """How guidance grows over the steps: `guidance_scale` all along, or from 1 up to it."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class SamplingParams(BaseModel):
    """Choices for one image; immutable, and refused at birth when out of bounds.

    `steps`: forward passes of the prior, 1 to 64.
    `temperature`: divides the logits before a code is drawn.
    `choice_temperature`: weight of the Gumbel noise on the confidence; falls linearly to 0.
    `guidance_scale`: `uncond + s * (cond - uncond)`; 1 turns guidance off.
    `top_k`: only the k likeliest codes of an entry may be drawn; None: all.
    `seed`: 0 to 2**53 - 1; same seed and choices, same codes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    steps: int = Field(default=12, ge=1, le=MAX_STEPS)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    temperature: float = Field(default=1.0, gt=0.0, le=4.0, allow_inf_nan=False)
    choice_temperature: float = Field(default=2.0, ge=0.0, le=50.0, allow_inf_nan=False)
    guidance_scale: float = Field(default=1.0, ge=0.0, le=20.0, allow_inf_nan=False)
    mask_schedule: MaskSchedule = MaskSchedule.COSINE
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOP_K)
    order: UnmaskOrder = UnmaskOrder.CONFIDENCE
    guidance_schedule: GuidanceSchedule = GuidanceSchedule.CONSTANT


class EditParams(BaseModel):
    """Choices for an edit beside those of its images; immutable, and refused at birth when out of bounds.

    `strength`: of the codes where the image is made anew, the share that is; the seed chooses which.
    `feather_px`: how far beyond there the new fades into the old.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(
        default=1.0, gt=0.0, le=1.0, allow_inf_nan=False, description="share of the codes that is made anew"
    )
    feather_px: int = Field(default=8, ge=0, le=256, description="pixels over which the seam fades")


def derived_seed(seed: int, index: int) -> int:
    """Seed of image `index` of a request; image 0 has the request's own seed.

    The stride is odd and far larger than any number of images, so that requests
    with neighbouring seeds share no image.
    """
    return (seed + index * 0x1_9E37_79B9_7F4B) % (MAX_SEED + 1)
