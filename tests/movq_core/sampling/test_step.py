"""unmask_step: pure, per row, and true to its distribution."""

import dataclasses

import pytest
import torch

from movq_core.sampling.guidance import guide
from movq_core.sampling.halton import halton_ranks
from movq_core.sampling.noise import uniforms
from movq_core.sampling.step import StepRows, draw_codes, draw_masked, only_likeliest, unmask_step
from tests.movq_core.sampling.step_rows import step_rows

K = 8
ENDS = (2.0**-24, 1 - 2.0**-24)  # the least and the largest that `uniforms` gives


def rows(seed, step, n_masked, temperature=1.0, noise_scale=0.0, **more):
    size = len(seed)
    return step_rows(
        seed=torch.tensor(seed),
        step=torch.tensor(step),
        n_masked=torch.tensor(n_masked),
        temperature=torch.full((size,), temperature),
        noise_scale=torch.full((size,), noise_scale),
        **more,
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


def some_rows(size, codes_each, entries, seed, **more):
    """Logits, codes (a different share masked in each row) and StepRows of `size` rows."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(size, entries, codes_each, generator=generator)
    share = torch.linspace(0, 1, size)[:, None]
    masked = torch.rand(size, entries, generator=generator) < share
    seeds = torch.arange(size) + 10 * seed
    heat, noise = 0.3 + torch.rand(2, size, generator=generator)
    step = step_rows(seeds, torch.arange(size), (masked.sum(1) * 0.6).long(), heat, noise, **more)
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
    silent = step_rows(step.seed, step.step, step.n_masked, step.temperature, torch.zeros(5))
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


def test_in_haltons_order_the_first_of_those_masked_settle_however_confident():
    torch.manual_seed(0)
    logits = 8 * torch.randn(2, 2, 4, 4, K)
    codes = torch.full((2, 2, 4, 4), K)
    codes[1, :, :2] = 3  # half of the second row's entries are known
    halton = rows([1, 2], [0, 3], [20, 6], noise_scale=5.0, halton=torch.tensor([True, True]))
    result = unmask_step(logits, codes, K, halton)
    ranks = halton_ranks(2, 4, 4, logits.device).view(2, 4, 4)
    for row, n_masked in ((0, 20), (1, 6)):
        last = sorted(ranks[codes[row] == K].tolist())[-n_masked:]
        assert sorted(ranks[result[row] == K].tolist()) == last
    assert torch.equal(result[1, :, :2], codes[1, :, :2])


def test_rows_of_either_order_share_a_step():
    logits, codes, step = some_rows(16, K, 32, seed=5)
    logits, codes = logits.view(16, 2, 4, 4, K), codes.view(16, 2, 4, 4)
    turns = torch.arange(16) % 2 == 0
    together = unmask_step(logits, codes, K, dataclasses.replace(step, halton=turns))
    halton = unmask_step(logits, codes, K, dataclasses.replace(step, halton=torch.ones_like(turns)))
    assert torch.equal(together[turns], halton[turns])
    assert torch.equal(together[~turns], unmask_step(logits, codes, K, step)[~turns])


def test_an_order_changes_no_draw():
    """Only which of them stay: in the last step all do."""
    logits, codes, step = some_rows(6, K, 32, seed=6)
    logits, codes = logits.view(6, 2, 4, 4, K), codes.view(6, 2, 4, 4)
    last = dataclasses.replace(step, n_masked=torch.zeros(6, dtype=torch.int64))
    halton = dataclasses.replace(last, halton=torch.ones(6, dtype=torch.bool))
    assert torch.equal(unmask_step(logits, codes, K, last), unmask_step(logits, codes, K, halton))


def test_of_equally_likely_codes_all_or_none_stay():
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, -torch.inf]])
    for top_k, kept in ((1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (6, 5), (99, 5)):
        likeliest = only_likeliest(logits, torch.tensor([top_k]))
        assert likeliest.isfinite().sum() == kept
        assert torch.equal(likeliest[likeliest.isfinite()], logits[likeliest.isfinite()])


def test_the_confidence_is_in_the_distribution_that_was_drawn_from():
    logits, codes, step = some_rows(4, 50, 64, seed=7, top_k=torch.tensor([1, 3, 50, 10**6]))
    silent = dataclasses.replace(step, noise_scale=torch.zeros(4))
    drawn, confidence = draw_masked(logits, torch.full_like(codes, 50), 50, silent)
    for row, top_k in enumerate((1, 3, 50, 50)):
        values, likeliest = logits[row].topk(top_k)
        log_p = torch.log_softmax(values / step.temperature[row], -1)
        place = (likeliest == drawn[row, :, None]).int()
        assert (place.sum(-1) == 1).all(), "a code was drawn that is not of the likeliest"
        torch.testing.assert_close(
            confidence[row], log_p.gather(1, place.argmax(-1, keepdim=True)).squeeze(1)
        )


def test_who_asks_for_all_codes_is_equal_to_the_bit_beside_who_asks_for_few():
    logits, codes, step = some_rows(6, 300, 50, seed=8)
    few = dataclasses.replace(step, top_k=torch.tensor([300, 5, 299, 10**6, 1, 300]))
    plain, mixed = draw_masked(logits, codes, 300, step), draw_masked(logits, codes, 300, few)
    for row in (0, 3, 5):
        assert torch.equal(plain[0][row], mixed[0][row])
        assert torch.equal(plain[1][row], mixed[1][row])
    for row in range(6):
        alone = draw_masked(logits[row : row + 1], codes[row : row + 1], 300, only(few, row))
        assert torch.equal(alone[0][0], mixed[0][row])
        assert torch.equal(alone[1][0], mixed[1][row])


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
