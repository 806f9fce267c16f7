"""MoVQ: shapes at any size, spatial norm everywhere, and the grid-level saving that must change nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from movq_core.config import MOVQ_PRESETS
from movq_core.models.movq import MoVQ, PlainNorm, SpatialNorm

TINY = MOVQ_PRESETS["tiny"]


def tiny(**changes):
    torch.manual_seed(0)
    return MoVQ(TINY.model_copy(update=changes)).eval()


@pytest.mark.parametrize(("height", "width", "batch"), [(16, 16, 2), (8, 24, 1), (4, 4, 3)])
def test_encodes_and_decodes_any_size_that_the_grid_divides(height, width, batch):
    movq = tiny()
    codes = movq.encode_codes(torch.rand(batch, 3, height, width) * 2 - 1)
    assert codes.shape == (batch, 2, height // 4, width // 4)
    assert 0 <= codes.min() <= codes.max() < 32
    pixels = movq.decode_codes(codes)
    assert pixels.shape == (batch, 3, height, width)
    assert pixels.abs().max() <= 1


def test_says_which_sizes_are_allowed():
    with pytest.raises(ValueError, match="multiples of 4"):
        tiny().encode(torch.zeros(1, 3, 18, 16))


@pytest.mark.parametrize("affine", [True, False])
def test_spatial_norm_on_the_grid_equals_the_plain_formula(affine):
    """The oracle upsamples z_q first and runs the 1x1 convs at full size, as the paper writes it."""
    torch.manual_seed(1)
    norm = SpatialNorm(8, z_channels=6, groups=4, affine=affine)
    x, z_q = torch.randn(2, 8, 12, 20), torch.randn(2, 6, 3, 5)

    full = F.interpolate(z_q, size=x.shape[-2:], mode="nearest")
    expected = norm.norm(x) * norm.scale(full) + norm.shift(full)

    torch.testing.assert_close(norm(x, z_q), expected, rtol=0, atol=2e-6)


def test_every_norm_of_the_decoder_is_spatial_and_none_of_the_encoder():
    movq = tiny()
    decoder_norms = [m for m in movq.decoder.modules() if isinstance(m, nn.GroupNorm)]
    spatial = [m.norm for m in movq.decoder.modules() if isinstance(m, SpatialNorm)]
    assert {id(n) for n in decoder_norms} == {id(n) for n in spatial}
    assert not any(isinstance(m, SpatialNorm) for m in movq.encoder.modules())


def test_plain_decoder_is_a_config_value():
    movq = tiny(decoder_norm="group")
    assert not any(isinstance(m, SpatialNorm) for m in movq.modules())
    assert any(isinstance(m, PlainNorm) for m in movq.decoder.modules())
    assert movq.decode_codes(torch.zeros(1, 2, 4, 4, dtype=torch.long)).shape == (1, 3, 16, 16)


def test_the_modulator_is_z_q_itself():
    """With conv_in silenced, only the modulation is left to carry the codes into the pixels."""
    movq = tiny()
    nn.init.zeros_(movq.decoder.conv_in.weight)
    a = movq.decode(torch.randn(1, 8, 4, 4))
    b = movq.decode(torch.randn(1, 8, 4, 4))
    assert not torch.allclose(a, b)


def test_the_papers_preset_has_the_papers_size():
    """About 78 to 83 M parameters, 16x16x4 codes; built on the meta device, so nothing is allocated."""
    with torch.device("meta"):
        movq = MoVQ(MOVQ_PRESETS["movq-256"])
    millions = sum(p.numel() for p in movq.parameters()) / 1e6
    assert 78 <= millions <= 84
    assert movq.config.grid_size == 16
    assert movq.config.code_channels == 4
