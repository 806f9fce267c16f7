"""unmask_step: pure, per row, and true to its distribution."""

import pytest
import torch

from movq_core.sampling.guidance import guide
from movq_core.sampling.step import StepRows, draw_codes, unmask_step

K = 8


def rows(seed, step, n_masked, temperature=1.0, noise_scale=0.0):
    size = len(seed)
    return StepRows(
        seed=torch.tensor(seed),
        step=torch.tensor(step),
        n_masked=torch.tensor(n_masked),
        temperature=torch.full((size,), temperature),
        noise_scale=torch.full((size,), noise_scale),
    )


def test_keeps_exactly_n_masked_and_never_touches_known_codes():
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 3, 3, K)
    codes = torch.full((3, 2, 3, 3), K)
    codes[:, 0, 0, :] = torch.tensor([1, 2, 3])

    result = unmask_step(logits, codes, K, rows([1, 2, 3], [0, 4, 9], [11, 5, 0]))

    assert [(r == K).sum().item() for r in result] == [11, 5, 0]
    assert torch.equal(result[:, 0, 0, :], codes[:, 0, 0, :])
    assert codes[0, 1, 0, 0] == K, "the input was written to"


def test_the_most_confident_stay_when_there_is_no_noise():
    logits = torch.zeros(1, 1, 2, 2, K)
    logits[0, 0, 0, 1, 3] = 50.0
    logits[0, 0, 1, 0, 5] = 40.0
    result = unmask_step(logits, torch.full((1, 1, 2, 2), K), K, rows([7], [0], [2]))
    assert result[0, 0].tolist() == [[K, 3], [5, K]]


def test_channels_of_one_position_are_masked_on_their_own():
    logits = torch.zeros(1, 2, 1, 2, K)
    logits[0, 0, 0, 0, 1] = 50.0  # channel 0 is sure of the first position, channel 1 of the second
    logits[0, 1, 0, 1, 2] = 50.0
    result = unmask_step(logits, torch.full((1, 2, 1, 2), K), K, rows([7], [0], [2]))
    assert result[0].tolist() == [[[1, K]], [[K, 2]]]


def test_a_row_is_equal_alone_and_among_others_at_other_steps():
    torch.manual_seed(0)
    logits = torch.randn(16, 2, 4, 4, K)
    codes = torch.full((16, 2, 4, 4), K)
    every = rows(list(range(16)), list(range(16)), [30 - i for i in range(16)], 0.7, 1.5)
    together = unmask_step(logits, codes, K, every)
    for i in range(16):
        one = rows([i], [i], [30 - i], 0.7, 1.5)
        assert torch.equal(unmask_step(logits[i : i + 1], codes[i : i + 1], K, one)[0], together[i])


def test_codes_are_drawn_from_the_softmax():
    torch.manual_seed(0)
    logits = torch.randn(K)
    uniform = (torch.arange(100_000) + 0.5)[None] / 100_000  # every quantile once: no luck involved
    codes, log_p = draw_codes(logits.expand(1, 100_000, K), torch.tensor([0.5]), uniform)
    expected = torch.softmax(logits / 0.5, -1)
    counted = torch.bincount(codes[0], minlength=K) / 100_000
    torch.testing.assert_close(counted, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(log_p[0], expected.log()[codes[0]])


@pytest.mark.parametrize("edge", [2.0**-25, 1 - 2.0**-25])
def test_the_ends_of_the_distribution_give_codes_that_exist(edge):
    logits = torch.full((1, 1, 512), -80.0)
    logits[..., 3] = 0.0
    codes, _ = draw_codes(logits, torch.ones(1), torch.tensor([[edge]]))
    assert 0 <= codes.item() < 512


def test_guidance_is_one_formula():
    conditional, unconditional = torch.tensor([[3.0], [3.0], [3.0]]), torch.tensor([[1.0], [1.0], [1.0]])
    scale = torch.tensor([0.0, 1.0, 3.0])
    assert guide(conditional, unconditional, scale).flatten().tolist() == [1.0, 3.0, 7.0]
