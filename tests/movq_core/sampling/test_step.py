"""unmask_step: pure, per row, and true to its distribution."""

import pytest
import torch

from movq_core.sampling.guidance import guide
from movq_core.sampling.noise import uniforms
from movq_core.sampling.step import StepRows, draw_codes, draw_masked, unmask_step

K = 8
ENDS = (2.0**-24, 1 - 2.0**-24)  # the least and the largest that `uniforms` gives


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


def test_known_codes_stay_even_when_a_plan_asks_for_more_masks_than_there_are():
    codes = torch.tensor([[[[1, 2, K, 3]]]])
    result = unmask_step(torch.zeros(1, 1, 1, 4, K), codes, K, rows([1], [0], [3]))
    assert result.tolist() == [[[[1, 2, K, 3]]]]


def test_nothing_masked_is_nothing_to_do():
    codes = torch.randint(0, K, (2, 1, 2, 2))
    result = unmask_step(torch.zeros(2, 1, 2, 2, K), codes, K, rows([1, 2], [0, 0], [0, 0]))
    assert torch.equal(result, codes)


def test_ties_are_masked_in_the_order_of_entries():
    result = unmask_step(torch.zeros(1, 1, 1, 8, K), torch.full((1, 1, 1, 8), K), K, rows([1], [0], [5]))
    assert (result == K).flatten().tolist() == [True] * 5 + [False] * 3


@pytest.fixture
def threads():
    """Sets how many threads torch has; puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def some_rows(size, codes_each, entries, seed):
    """Logits, codes (a different share masked in each row) and StepRows of `size` rows."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(size, entries, codes_each, generator=generator)
    share = torch.linspace(0, 1, size)[:, None]
    masked = torch.rand(size, entries, generator=generator) < share
    seeds = torch.arange(size) + 10 * seed
    heat, noise = 0.3 + torch.rand(2, size, generator=generator)
    step = StepRows(seeds, torch.arange(size), (masked.sum(1) * 0.6).long(), heat, noise)
    return logits, torch.where(masked, codes_each, 0), step


def only(step, row):
    return StepRows(*(getattr(step, name)[row : row + 1] for name in step.__dataclass_fields__))


@pytest.mark.parametrize(("codes_each", "entries"), [(8, 32), (37, 5), (1000, 100), (1024, 300), (2500, 64)])
@pytest.mark.parametrize("several", [1, 2])
def test_a_row_is_equal_to_the_bit_alone_and_in_company_on_one_thread_or_two(
    codes_each, entries, several, threads
):
    """Draws and confidences; catches kernels whose sums follow the batch's shape."""
    logits, codes, step = some_rows(7, codes_each, entries, seed=entries)
    threads(several)
    drawn, confidence = draw_masked(logits, codes, codes_each, step)
    threads(1)
    for row in range(7):
        alone = draw_masked(logits[row : row + 1], codes[row : row + 1], codes_each, only(step, row))
        assert torch.equal(alone[0][0], drawn[row])
        assert torch.equal(alone[1][0], confidence[row])


def test_a_step_of_a_row_is_equal_alone_and_among_others_at_other_steps():
    logits, codes, step = some_rows(16, K, 32, seed=0)
    logits, codes = logits.view(16, 2, 4, 4, K), codes.view(16, 2, 4, 4)
    together = unmask_step(logits, codes, K, step)
    for row in range(16):
        alone = unmask_step(logits[row : row + 1], codes[row : row + 1], K, only(step, row))
        assert torch.equal(alone[0], together[row])


def test_what_is_known_costs_no_draw_and_changes_none():
    logits, codes, step = some_rows(5, 100, 200, seed=1)
    drawn, confidence = draw_masked(logits, codes, 100, step)
    masked = codes == 100
    every, log_p = draw_codes(logits, step.temperature, uniforms(step.seed, step.step, 200)[0])
    assert torch.equal(drawn[masked], every[masked])
    assert (drawn[~masked] == 0).all()
    assert (confidence[~masked] == torch.inf).all()
    silent = StepRows(step.seed, step.step, step.n_masked, step.temperature, torch.zeros(5))
    assert torch.equal(draw_masked(logits, codes, 100, silent)[1][masked], log_p[masked])


def test_a_step_is_what_the_textbook_says():
    """Against the same in float64 and one entry after another: no code of 2,000 is another."""
    logits, codes, step = some_rows(10, 50, 200, seed=2)
    result = unmask_step(logits.view(10, 2, 10, 10, 50), codes.view(10, 2, 10, 10), 50, step).flatten(1)
    uniform, choice = (noise.double() for noise in uniforms(step.seed, step.step, 200))
    for row in range(10):
        expected, confidences = codes[row].clone(), []
        for entry in (codes[row] == 50).nonzero().flatten().tolist():
            p = torch.softmax(logits[row, entry].double() / step.temperature[row].double(), -1)
            expected[entry] = (p.cumsum(-1) < uniform[row, entry]).sum()
            gumbel = -(-choice[row, entry].log()).log()
            confidences.append((p[expected[entry]].log() + step.noise_scale[row].double() * gumbel, entry))
        for _, entry in sorted(confidences)[: step.n_masked[row]]:
            expected[entry] = 50
        assert torch.equal(result[row], expected)


def test_logits_of_half_the_bits_are_drawn_in_float32():
    logits, codes, step = some_rows(4, 300, 50, seed=3)
    half = logits.bfloat16()
    for ours, theirs in zip(
        draw_masked(half, codes, 300, step), draw_masked(half.float(), codes, 300, step), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_codes_are_drawn_from_the_softmax():
    torch.manual_seed(0)
    logits = torch.randn(K)
    uniform = (torch.arange(100_000) + 0.5)[None] / 100_000  # every quantile once: no luck involved
    codes, log_p = draw_codes(logits.expand(1, 100_000, K), torch.tensor([0.5]), uniform)
    expected = torch.softmax(logits / 0.5, -1)
    counted = torch.bincount(codes[0], minlength=K) / 100_000
    torch.testing.assert_close(counted, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(log_p[0], expected.log()[codes[0]])


@pytest.mark.parametrize("uniform", ENDS)
@pytest.mark.parametrize("size", [1, 2, 31, 512, 1000])
def test_the_ends_of_the_distribution_give_its_first_and_its_last_code(size, uniform):
    codes, _ = draw_codes(torch.zeros(1, 1, size), torch.ones(1), torch.tensor([[uniform]]))
    assert codes.item() == (0 if uniform < 0.5 else size - 1)


@pytest.mark.parametrize("uniform", [*ENDS, 0.5])
@pytest.mark.parametrize("place", [0, 3, 511])
def test_a_code_with_all_the_mass_is_drawn(place, uniform):
    logits = torch.full((1, 1, 512), -200.0)
    logits[..., place] = 0.0
    codes, log_p = draw_codes(logits, torch.ones(1), torch.tensor([[uniform]]))
    assert (codes.item(), log_p.item()) == (place, 0.0)


def test_a_forbidden_code_is_never_drawn():
    """-inf at both ends and in the midst: catches a search that stops one code too early."""
    torch.manual_seed(0)
    logits = torch.randn(64)
    forbidden = torch.tensor([0, 1, 2, 20, 21, 40, 62, 63])
    logits[forbidden] = -torch.inf
    uniform = torch.cat([torch.rand(100_000).clamp(*ENDS), torch.tensor(ENDS)])[None]
    codes, log_p = draw_codes(logits.expand(1, uniform.shape[1], 64), torch.ones(1), uniform)
    assert not torch.isin(codes, forbidden).any()
    assert codes.unique().numel() == 64 - len(forbidden)
    assert log_p.isfinite().all()


def test_guidance_is_one_formula():
    conditional, unconditional = torch.tensor([[3.0], [3.0], [3.0]]), torch.tensor([[1.0], [1.0], [1.0]])
    scale = torch.tensor([0.0, 1.0, 3.0])
    assert guide(conditional, unconditional, scale).flatten().tolist() == [1.0, 3.0, 7.0]
