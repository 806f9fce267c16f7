"""The shipped demo: its weights are there, fit, and do what the model card says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from movq_core.bundle import ModelBundle
from movq_core.sampling.generate import generate_codes
from movq_core.training.data import to_pixels
from movq_core.training.evaluate import evaluate_reconstruction

ROOT = Path(__file__).parents[2]
HELD_OUT = Path(__file__).with_name("heldout.png")  # 16 emoji that no training saw, a 4 x 4 sheet


@pytest.fixture(scope="module")
def demo():
    return ModelBundle.load(ROOT / "models" / "emoji-64")


def test_reconstructs_what_it_never_saw(demo):
    """The whole held-out set gave 28.0 dB and 0.915 (model card); a sixteenth of it is noisier."""
    sheet = np.asarray(Image.open(HELD_OUT).convert("RGB"))
    tiles = sheet.reshape(4, 64, 4, 64, 3).transpose(0, 2, 1, 3, 4).reshape(16, 64, 64, 3)
    figures = evaluate_reconstruction(demo.movq, to_pixels(tiles))
    assert figures.psnr_db >= 26.5
    assert figures.ssim >= 0.85


def test_every_class_has_a_name_and_an_image(demo):
    manifest = demo.manifest
    assert 10 <= len(set(manifest.labels)) == manifest.maskgit.num_classes <= 15
    params = manifest.sampling.model_copy(update={"steps": 4, "seed": 1})
    codes = torch.cat([generate_codes(demo.maskgit, c, params) for c in range(len(manifest.labels))])
    with torch.inference_mode():
        pixels = demo.movq.decode_codes(codes)
    assert pixels.shape == (len(manifest.labels), 3, 64, 64)
    # An icon on white: the corners are nearly white, the middle is not.
    assert (pixels[..., :4, :4].mean((1, 2, 3)) > 0.8).float().mean() > 0.7
    assert (pixels[..., 16:48, 16:48].mean((1, 2, 3)) < 0.9).float().mean() > 0.9


def test_fits_into_forty_megabytes():
    files = [p for p in (ROOT / "models" / "emoji-64").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 40e6
