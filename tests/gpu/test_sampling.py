"""The sampler on CUDA: a million draws, a graph, no waiting host. Skipped without a GPU.

Needs torch, Triton and pytest alone: `pytest --noconftest -c /dev/null --rootdir . tests/gpu`.
"""

import dataclasses

import pytest
import torch

from movq_core.sampling.noise import uniforms
from movq_core.sampling.step import StepRows, draw_masked, fastest_draw, unmask_step
from tests.movq_core.sampling.chi_square import (
    ALMOST_NEVER,
    HARD,
    SOFT,
    chance_of_counts,
    drawn_counts,
    softmax,
)
from tests.movq_core.sampling.step_rows import step_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

K = 1024
ROWS = 64


def on(device, step):
    return StepRows(*(getattr(step, name).to(device) for name in step.__dataclass_fields__))


@pytest.fixture(scope="module")
def batch():
    """ROWS images' logits (B, 4, 16, 16, K), soft to hard, on the CPU; codes half masked; their rows."""
    generator = torch.Generator().manual_seed(0)
    hardness = torch.linspace(0.5, 6, ROWS).view(-1, 1, 1, 1, 1)
    logits = hardness * torch.randn(ROWS, 4, 16, 16, K, generator=generator)
    masked = torch.rand(ROWS, 4, 16, 16, generator=generator) < 0.5
    seeds = torch.arange(ROWS) * 2**40
    heat, noise = 0.5 + torch.rand(2, ROWS, generator=generator)
    step = step_rows(seeds, seeds % 13, masked.flatten(1).sum(1) // 2, heat, noise)
    return logits, torch.where(masked, K, 5), step


def draws(batch, device, draw):
    """Codes and confidences, on the CPU, of `draw` on `device`."""
    logits, codes, step = batch
    drawn, confidence = draw(
        logits.to(device).flatten(1, -2), codes.to(device).flatten(1), K, on(device, step)
    )
    return drawn.cpu(), confidence.cpu()


def test_the_kernel_is_what_cuda_takes():
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")
    assert fastest_draw(torch.device("cuda")) is not draw_masked


def test_noise_is_that_of_the_cpu_to_the_bit():
    seeds, steps = torch.arange(50) * 2**57, torch.arange(50)
    for ours, theirs in zip(
        uniforms(seeds.cuda(), steps.cuda(), 1000), uniforms(seeds, steps, 1000), strict=True
    ):
        assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("way", ["fastest", "torch"])
def test_codes_are_those_of_the_cpu_but_for_rounding(batch, way):
    """32,768 draws: another last bit of a CDF's edge moves one code in some 40,000 (K = 1024)."""
    draw = fastest_draw(torch.device("cuda")) if way == "fastest" else draw_masked
    drawn, confidence = draws(batch, "cuda", draw)
    expected, expected_confidence = draws(batch, "cpu", draw_masked)
    same = drawn == expected
    assert (~same).sum() < 20
    torch.testing.assert_close(confidence[same], expected_confidence[same], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("logits", [SOFT, HARD], ids=["soft", "hard"])
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_codes_follow_the_softmax(logits, temperature):
    """As on the CPU: catches probabilities that are wrong by a percent."""
    counts = drawn_counts(logits.cuda(), temperature)
    assert chance_of_counts(counts, softmax(logits, temperature)) > ALMOST_NEVER


@pytest.mark.parametrize("way", ["fastest", "torch"])
def test_the_likeliest_codes_are_those_of_the_cpu_but_for_rounding(batch, way):
    """The last of them is found exactly, so no other codes are drawn; CDFs differ as without."""
    logits, codes, step = batch
    few = dataclasses.replace(step, top_k=torch.arange(ROWS) * 20 + 1)  # 1 to more than there are
    test_codes_are_those_of_the_cpu_but_for_rounding((logits, codes, few), way)


@pytest.mark.parametrize("top_k", [2, 7, 1000])
def test_of_the_likeliest_codes_alone_those_are_drawn_in_proportion(top_k):
    counts = drawn_counts(SOFT.cuda(), 0.8, top_k)
    assert chance_of_counts(counts, softmax(SOFT, 0.8, top_k)) > ALMOST_NEVER


def test_rows_of_both_orders_share_a_step(batch):
    logits, codes, step = batch
    mixed = dataclasses.replace(step, halton=torch.arange(ROWS) % 2 == 0)
    ours = unmask_step(logits.cuda(), codes.cuda(), K, on("cuda", mixed)).cpu()
    confident = unmask_step(logits.cuda(), codes.cuda(), K, on("cuda", step)).cpu()
    expected = unmask_step(logits, codes, K, mixed)
    assert torch.equal(ours[1::2], confident[1::2])
    assert torch.equal(ours[::2] == K, expected[::2] == K)


def test_a_row_is_equal_alone_and_in_company(batch):
    logits, codes, step = batch
    together = unmask_step(logits.cuda(), codes.cuda(), K, on("cuda", step))
    for row in range(0, ROWS, 7):
        its = StepRows(*(getattr(step, name)[row : row + 1] for name in step.__dataclass_fields__))
        alone = unmask_step(logits[row : row + 1].cuda(), codes[row : row + 1].cuda(), K, on("cuda", its))
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("way", ["fastest", "torch"])
def test_a_graph_does_what_it_recorded_and_the_host_never_waits(batch, way):
    draw = fastest_draw(torch.device("cuda")) if way == "fastest" else draw_masked
    logits, codes, step = (
        part.cuda() if isinstance(part, torch.Tensor) else on("cuda", part) for part in batch
    )
    expected = unmask_step(logits, codes, K, step, draw)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        result = unmask_step(logits, codes, K, step, draw)
    graph.replay()
    assert torch.equal(result, expected)
    step.seed.add_(1)
    graph.replay()
    assert not torch.equal(result, expected)
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = unmask_step(logits, codes, K, step, draw)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(again, result)
