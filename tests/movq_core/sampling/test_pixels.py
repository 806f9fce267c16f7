"""PixelTokenizer: bytes to codes and back; its precision is the convolutions', never the quantiser's."""

import copy

import pytest
import torch

from movq_core.sampling.pixels import PixelTokenizer, cast_movq, decode_padded


@pytest.fixture
def movq(sharp_bundle):
    return copy.deepcopy(sharp_bundle.movq)


@pytest.fixture
def codes():
    return torch.randint(0, 32, (5, 2, 4, 4), generator=torch.Generator().manual_seed(0))


def test_float32_is_the_model_itself(movq, codes, sharp_bundle):
    tokenizer = PixelTokenizer(movq)
    with torch.inference_mode():
        image = sharp_bundle.movq.decode_codes(codes)
    pixels = tokenizer.decode(codes)
    assert torch.equal(pixels, image.add(1.0).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
    with torch.inference_mode():
        batch = pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()
        assert torch.equal(tokenizer.encode(pixels), sharp_bundle.movq.encode_codes(batch))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_padding_changes_no_image(movq, codes, count):
    tokenizer = PixelTokenizer(movq)
    alone = torch.cat([tokenizer.decode(one) for one in codes[:count].split(1)])
    for buckets in ((1,), (2,), (1, 2, 4)):
        padded = decode_padded(tokenizer, codes[:count], buckets)
        assert padded.shape == alone.shape
        # Convolutions of a batch may round otherwise; a byte may then fall to the other side.
        assert (padded.int() - alone.int()).abs().max() <= 1


@pytest.mark.parametrize("served", ["plain", "optimized"])
def test_a_preview_of_what_is_known_is_its_decode_and_opaque(movq, codes, served):
    tokenizer = PixelTokenizer(movq if served == "plain" else movq.optimized(compiler=False))
    preview = tokenizer.preview(codes)
    assert torch.equal(preview[..., :3], tokenizer.decode(codes))
    assert (preview[..., 3] == 255).all()


@pytest.mark.parametrize("served", ["plain", "optimized"])
def test_a_preview_says_what_share_of_each_cell_is_known(movq, codes, served):
    tokenizer = PixelTokenizer(movq if served == "plain" else movq.optimized(compiler=False))
    masked = codes.clone()
    masked[:, :, 0, 0] = 32  # both channels of one cell, and of another the first
    masked[:, 0, 1, 2] = 32
    before = masked.clone()
    alpha = tokenizer.preview(masked)[..., 3]
    cells = alpha.view(5, 4, 4, 4, 4)[:, :, 0, :, 0]  # 4 pixels to a cell's side
    assert torch.equal(alpha, cells.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert (cells[:, 0, 0] == 0).all()
    assert (cells[:, 1, 2] == 128).all()
    assert (cells == 255).sum() == 5 * 14
    assert torch.equal(masked, before)


def test_the_mean_of_the_codebook_stands_for_a_masked_code(movq, codes):
    quantizer = movq.quantizer
    masked = codes.masked_fill(torch.arange(4) > 1, 32)
    z = quantizer.split(quantizer.decode_masked(masked))
    assert torch.equal(z[..., :2, :], quantizer.split(quantizer.decode(codes))[..., :2, :])
    assert torch.equal(z[..., 2:, :], quantizer.codebook.mean(0).expand(5, 2, 4, 2, -1))


def test_in_bfloat16_the_codebook_stays_exact(movq, codes, sharp_bundle):
    tokenizer = PixelTokenizer(cast_movq(movq, torch.bfloat16, channels_last=True), torch.bfloat16)
    assert torch.equal(movq.quantizer.codebook, sharp_bundle.movq.quantizer.codebook)
    assert movq.decoder.conv_out.weight.dtype == torch.bfloat16
    exact = PixelTokenizer(sharp_bundle.movq).decode(codes)
    difference = (tokenizer.decode(codes).int() - exact.int()).abs().float()
    assert difference.mean() < 1.0  # of 255
    assert tokenizer.encode(exact).shape == codes.shape
