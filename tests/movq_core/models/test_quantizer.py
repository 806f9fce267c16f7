"""MultichannelQuantizer: nearest codes, one codebook, straight-through gradient."""

import torch

from movq_core.models.quantizer import MultichannelQuantizer


def test_codes_are_the_nearest_of_one_shared_codebook():
    torch.manual_seed(0)
    quantizer = MultichannelQuantizer(code_channels=3, codebook_size=16, code_dim=4)
    torch.nn.init.normal_(quantizer.codebook)
    z = torch.randn(2, 12, 5, 7)

    codes = quantizer.encode(z)

    assert codes.shape == (2, 3, 5, 7)
    for channel in range(3):
        vectors = z[:, channel * 4 : channel * 4 + 4].permute(0, 2, 3, 1)
        distances = (vectors[..., None, :] - quantizer.codebook).pow(2).sum(-1)
        assert torch.equal(codes[:, channel], distances.argmin(-1))


def test_decode_puts_each_channels_vector_where_split_takes_it_from():
    quantizer = MultichannelQuantizer(code_channels=2, codebook_size=8, code_dim=3)
    codes = torch.randint(0, 8, (1, 2, 4, 5))

    z_q = quantizer.decode(codes)

    assert torch.equal(quantizer.split(z_q), quantizer.codebook[codes])
    assert torch.equal(quantizer.encode(z_q), codes)


def test_gradient_passes_straight_through_to_z():
    quantizer = MultichannelQuantizer(code_channels=2, codebook_size=8, code_dim=3)
    z = torch.randn(1, 6, 2, 2, requires_grad=True)

    quantizer(z).z_q.sum().backward()

    assert torch.equal(z.grad, torch.ones_like(z))


def test_commitment_moves_z_and_codebook_loss_moves_the_codebook():
    quantizer = MultichannelQuantizer(code_channels=1, codebook_size=8, code_dim=3)
    z = torch.randn(1, 3, 2, 2, requires_grad=True)

    quantized = quantizer(z)
    quantized.commitment_loss.backward(retain_graph=True)
    assert z.grad.abs().sum() > 0
    assert quantizer.codebook.grad is None
    quantized.codebook_loss.backward()
    assert quantizer.codebook.grad.abs().sum() > 0


def test_quantises_in_float32_under_autocast():
    quantizer = MultichannelQuantizer(code_channels=1, codebook_size=8, code_dim=4)
    z = torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantized = quantizer(z)
    assert quantized.z_q.dtype == torch.float32
    assert torch.equal(quantized.codes, quantizer.encode(z))
