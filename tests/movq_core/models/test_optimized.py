"""OptimizedMoVQ: the plain module is the oracle of every form, alone and together."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from movq_core.config import MOVQ_PRESETS
from movq_core.models.movq import MoVQ
from movq_core.models.optimized.choices import Choices, seconds_of
from movq_core.models.optimized.convolution import FORMS, Convolution, _activate
from movq_core.models.optimized.movq import OptimizedDecoder, OptimizedEncoder
from movq_core.models.optimized.norm import Affine, GridNorm, merge_moments, moments_of
from movq_core.models.optimized.winograd import (
    compiled,
    transform_filter,
    transform_input,
    transform_output,
)

TINY = MOVQ_PRESETS["tiny"]
BOUND = 5e-4  # what issue 6 allows; what is seen here is a hundredth of it


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def movq_of(**changes):
    """A tokenizer whose every weight matters: none is left at zero or one."""
    torch.manual_seed(0)
    movq = MoVQ(TINY.model_copy(update=changes)).eval().requires_grad_(False)
    for parameter in movq.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    movq.quantizer.codebook.normal_()
    return movq


def convolution(channels_in, channels_out):
    torch.manual_seed(1)
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def activation(batch=1, height=8, width=12, channels=8):
    torch.manual_seed(2)
    return torch.randn(batch, height, width, channels) * 2 + 1


def affine_of(x, cells=4):
    batch, height, width, channels = x.shape
    shape = (batch, height // cells, width // cells, channels)
    return Affine(torch.rand(shape) + 0.5, torch.randn(shape))


def plainly(x, conv, affine=None, residual=None, upsample=False):
    """The same by torch's own operators, channels first."""
    if affine is not None:
        rows, columns = (x.shape[d] // affine.scale.shape[d] for d in (1, 2))
        scale, shift = (p.repeat_interleave(rows, 1).repeat_interleave(columns, 2) for p in affine)
        x = F.silu(x * scale + shift)
    h = x.permute(0, 3, 1, 2)
    h = F.interpolate(h, scale_factor=2.0, mode="nearest") if upsample else h
    y = conv(h).permute(0, 2, 3, 1)
    return y if residual is None else y + residual


@pytest.mark.parametrize("form", ["direct", "winograd"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("with_residual", [False, True])
def test_a_form_is_the_convolution_with_what_stands_around_it(form, batch, with_residual):
    conv, x = convolution(8, 6), activation(batch)
    residual = torch.randn(batch, 8, 12, 6) if with_residual else None
    affine = affine_of(x)
    expected = plainly(x, conv, affine, residual)
    y, moments = FORMS[form](conv, False)(x, affine, residual)
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(moments.mean, expected.mean((1, 2)), rtol=0, atol=1e-5)
    torch.testing.assert_close(moments.var, expected.var((1, 2), correction=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["direct", "sub-pixel", "winograd"])
def test_a_form_of_upsampling_is_nearest_neighbours_and_a_convolution(form):
    conv, x = convolution(8, 6), activation(2, 6, 8)
    y, moments = FORMS[form](conv, True)(x, None, None)
    expected = plainly(x, conv, upsample=True)
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(moments.mean, expected.mean((1, 2)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("height", [4, 8, 20, 28])
def test_winograd_in_strips_is_winograd_in_one_piece(height, monkeypatch):
    """Strips of two rows of tiles, the last one cut short by the image's end."""
    monkeypatch.setattr("movq_core.models.optimized.convolution.STRIP_BYTES", 1)
    conv, x = convolution(8, 6), activation(1, height, 12)
    affine = affine_of(x)
    y, moments = FORMS["winograd"](conv, False)(x, affine, None)
    expected = plainly(x, conv, affine)
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(moments.var, expected.var((1, 2), correction=0), rtol=1e-5, atol=1e-5)


def test_the_transforms_are_a_convolution_in_exact_arithmetic():
    """In float64 nothing but the algorithm is left."""
    tile, weight = torch.randn(6, 6, 5, dtype=torch.float64), torch.randn(3, 5, 3, 3, dtype=torch.float64)
    products = torch.bmm(transform_input(tile), transform_filter(weight))
    pixels = transform_output(products, torch.zeros(3, dtype=torch.float64)).view(4, 4, 3)
    expected = F.conv2d(tile.permute(2, 0, 1)[None], weight)[0].permute(1, 2, 0)
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-12)


def test_an_image_that_no_tile_fits_takes_the_direct_form():
    conv, x = convolution(8, 6), activation(1, 8, 8)
    operation = Convolution(conv, False, ("winograd",), Choices(TINY, x.device))
    operation(x)
    ragged = activation(1, 6, 10)
    torch.testing.assert_close(operation(ragged)[0], plainly(ragged, conv), rtol=0, atol=2e-5)


def test_moments_do_not_cancel():
    """A mean a thousand deviations from zero: a mean of squares in float32 would lose the variance."""
    x = torch.randn(1, 300, 200, 4) + 1000.0
    moments = moments_of(x)
    expected = x.double().var((1, 2), correction=0).float()
    torch.testing.assert_close(moments.var, expected, rtol=1e-3, atol=0)


def test_moments_of_parts_that_count_differently():
    x = activation(2, 10, 6)
    parts = [moments_of(x[:, :3]), moments_of(x[:, 3:])]
    merged, whole = merge_moments(parts, [3, 7]), moments_of(x)
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.var, whole.var)


@pytest.mark.parametrize("norm_affine", [True, False])
def test_a_grid_norm_is_the_norm(norm_affine):
    decoder = movq_of(norm_affine=norm_affine).decoder
    norms, x = [decoder.middle.block1.norm1, decoder.norm_out], activation(2, 8, 8, 32)
    z_q = torch.randn(2, TINY.z_channels, 4, 4)
    for norm in norms:
        h = x[..., : norm.norm.num_channels]
        expected = norm(h.permute(0, 3, 1, 2), z_q).permute(0, 2, 3, 1)
        affine = GridNorm(norm)(moments_of(h), z_q.permute(0, 2, 3, 1))
        torch.testing.assert_close(affine.apply(h), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("compiler", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, {"norm_affine": True, "attention_levels": (0, 1)}, {"decoder_norm": "group"}]
)
def test_both_halves_are_the_plain_ones(compiler, changes):
    movq = movq_of(**changes)
    choices = Choices(movq.config, torch.device("cpu"))
    encode = OptimizedEncoder(movq.encoder, choices, compiler)
    decode = OptimizedDecoder(movq.decoder, choices, compiler)
    for batch, height, width in ((1, 4, 4), (2, 4, 6), (1, 3, 5)):
        pixels, z_q = torch.rand(batch, 3, 4 * height, 4 * width), torch.randn(batch, 8, height, width)
        assert (encode(pixels) - movq.encoder(pixels)).abs().max() < BOUND / 10
        assert (decode(z_q, z_q) - movq.decoder(z_q, z_q)).abs().max() < BOUND / 10


def test_the_same_methods_with_the_same_answers():
    movq = movq_of()
    optimized = movq.optimized()
    pixels = torch.rand(2, 3, 16, 24) * 2 - 1
    codes = movq.encode_codes(pixels)
    assert torch.equal(optimized.encode_codes(pixels), codes)
    assert (optimized.decode_codes(codes) - movq.decode_codes(codes)).abs().max() < BOUND
    assert (optimized.encode(pixels) - movq.encode(pixels)).abs().max() < BOUND
    z_q = movq.quantizer.decode(codes)
    assert (optimized.decode(z_q) - movq.decode(z_q)).abs().max() < BOUND
    with pytest.raises(ValueError, match="multiples of 4"):
        optimized.encode(torch.zeros(1, 3, 18, 16))


def test_half_precision_stays_half_precision():
    """As on a GPU; the moments are float32 all the same."""
    movq = movq_of().to(torch.bfloat16)
    decode = OptimizedDecoder(movq.decoder, Choices(TINY, torch.device("cpu")), compiler=False)
    z_q = torch.randn(1, 8, 4, 4).to(torch.bfloat16)
    pixels = decode(z_q, z_q)
    assert pixels.dtype == torch.bfloat16
    expected = movq_of().decoder(z_q.float(), z_q.float())
    torch.testing.assert_close(pixels.float(), expected, rtol=0, atol=0.05 * float(expected.abs().max()))


def test_norm_and_activation_compile_into_one():
    """What a GPU runs; torch's compiler builds it on the CPU, too."""
    x = activation(2, 8, 12)
    affine = affine_of(x)
    torch.testing.assert_close(compiled(_activate)(x, affine), _activate(x, affine), rtol=0, atol=1e-5)


def test_choices_outlive_the_process(tmp_path):
    """A second start serves what the first one chose, whatever is fastest by then."""
    first = movq_of().optimized(folder=tmp_path)
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    assert kept == first.choices.names
    other = {"optimized": "plain", "plain": "optimized"}
    path.write_text(json.dumps({**kept, "decoder": other[kept["decoder"]]}))
    second = movq_of().optimized(folder=tmp_path)
    assert second.choices.names["decoder"] == other[kept["decoder"]]


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_serve(tmp_path, caplog):
    (tmp_path / "file").write_text("where a folder should be")
    assert movq_of().optimized(folder=tmp_path / "file" / "cache").choices.names
    assert "each start measures anew" in caplog.text


def test_other_shapes_have_other_choices(tmp_path):
    movq_of().optimized(folder=tmp_path)
    movq_of(base_channels=32).optimized(folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_run_here_is_never_the_fastest(caplog):
    def broken():
        raise RuntimeError("no compiler")

    assert seconds_of(broken) == float("inf")
    assert "no compiler" in caplog.text
    runs = {"broken": broken, "works": lambda: None}
    picked = Choices(TINY, torch.device("cpu")).pick("operation", tuple(runs), lambda form: runs[form]())
    assert picked == "works"
