"""The Triton kernel against torch's operations: on CUDA, or on a CPU where TRITON_INTERPRET=1 was set before.

The interpreter is slow (5 ms an entry), so these draw few; a million are drawn in tests/gpu.
"""

import pytest
import torch

from movq_core.sampling.noise import uniforms
from movq_core.sampling.step import ALL_CODES, StepRows, draw_masked, unmask_step
from tests.movq_core.sampling.step_rows import step_rows

triton = pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")
tl = triton.language
if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
    pytest.skip("needs a CUDA device or TRITON_INTERPRET=1", allow_module_level=True)

from movq_core.sampling.fused_draw import _to_uniform, fused_draw  # noqa: E402 - where there is Triton

DEVICE = "cpu" if triton.knobs.runtime.interpret else "cuda"


def some_rows(entries, size, dtype=torch.float32, **more):
    """Three rows of `entries` entries, a quarter of them known, with logits of `size` codes."""
    generator = torch.Generator().manual_seed(size)
    logits = (4 * torch.randn(3, entries, size, generator=generator)).to(DEVICE, dtype)
    known = torch.rand(3, entries, generator=generator) < 0.25
    step = step_rows(
        seed=torch.tensor([1, 2**40 + 5, 2**63 - 1]),
        step=torch.tensor([0, 3, 99]),
        n_masked=torch.tensor([entries // 2, 1, 0]),
        temperature=torch.tensor([1.0, 0.3, 2.0]),
        noise_scale=torch.tensor([1.0, 0.0, 4.5]),
        **more,
    )
    return logits, torch.where(known, size // 2, size).to(DEVICE), on_device(step)


def on_device(step):
    return StepRows(*(getattr(step, name).to(DEVICE) for name in step.__dataclass_fields__))


@triton.jit
def write_uniforms(seeds, steps, first, second, entries: tl.constexpr):
    row, entry = tl.program_id(0), tl.arange(0, entries)
    step = tl.load(steps + row).to(tl.uint32)
    a, b, _, _ = tl.philox(tl.load(seeds + row), entry, step, 0, 0)
    tl.store(first + row * entries + entry, _to_uniform(a))
    tl.store(second + row * entries + entry, _to_uniform(b))


def test_triton_has_our_noise_to_the_bit():
    seeds = torch.tensor([0, 5, 2**32 - 1, 2**32 + 1, 2**52 + 1, 2**63 - 1], device=DEVICE)
    steps = torch.tensor([0, 1, 2, 3, 50, 2**31], device=DEVICE)
    ours = [torch.empty(6, 128, device=DEVICE) for _ in range(2)]
    write_uniforms[(6,)](seeds, steps, *ours, 128)
    for fused, expected in zip(ours, uniforms(seeds, steps, 128), strict=True):
        assert torch.equal(fused, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [2, 37, 1000, 1024])
def test_draws_what_torch_draws(size, dtype):
    logits, codes, step = some_rows(40, size, dtype)
    drawn, confidence = fused_draw(logits, codes, size, step)
    expected, expected_confidence = draw_masked(logits, codes, size, step)
    assert torch.equal(drawn, expected)
    torch.testing.assert_close(confidence, expected_confidence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 37, 1000, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_draws_of_the_likeliest_what_torch_draws(size, dtype):
    """bfloat16 has many ties; the rows ask for few codes, for all, and for all but one."""
    few = torch.tensor([max(1, size // 20), ALL_CODES, size - 1])
    logits, codes, step = some_rows(12, size, dtype, top_k=few)
    drawn, confidence = fused_draw(logits, codes, size, step)
    expected, expected_confidence = draw_masked(logits, codes, size, step)
    assert torch.equal(drawn, expected)
    torch.testing.assert_close(confidence, expected_confidence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("top_k", [1, 3, 9])
def test_the_last_of_the_likeliest_is_found_whatever_its_sign(sign, top_k):
    """Logits of one sign, ties, both zeros and -inf: what may be drawn is drawn, and nothing else."""
    some = [-torch.inf, -0.0, 0.0, 1e-40, 0.5, 0.5, 1.0, 3.0, 3.0, 1e30]
    logits = torch.tensor(some, device=DEVICE) if sign == 0.0 else sign * torch.rand(10, device=DEVICE)
    _, _, step = some_rows(24, 10, top_k=torch.full((3,), top_k))
    step.temperature[:] = 1e30  # all that may be drawn, evenly
    codes = torch.full((3, 24), 10, device=DEVICE)
    drawn, _ = fused_draw(logits.expand(3, 24, 10), codes, 10, step)
    least = logits.sort(descending=True).values[top_k - 1]
    assert drawn.unique().tolist() == ((logits >= least) & (logits > -torch.inf)).nonzero().flatten().tolist()


def test_a_whole_step_is_equal():
    logits, codes, step = some_rows(36, 50)
    arguments = logits.view(3, 1, 6, 6, 50), codes.view(3, 1, 6, 6), 50, step
    assert torch.equal(unmask_step(*arguments, draw=fused_draw), unmask_step(*arguments, draw=draw_masked))


def test_tensors_of_any_strides_are_read_right():
    logits, codes, step = some_rows(16, 20)
    strided = StepRows(*(torch.stack([getattr(step, n)] * 2, 1)[:, 0] for n in step.__dataclass_fields__))
    apart = logits.transpose(0, 1).contiguous().transpose(0, 1)
    for ours, theirs in zip(
        fused_draw(apart, codes, 20, strided), fused_draw(logits, codes, 20, step), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_forbidden_code_is_never_drawn_and_one_with_all_the_mass_always():
    logits, _, step = some_rows(60, 10)
    codes = torch.full((3, 60), 10, device=DEVICE)
    logits[..., [0, 4, 5, 9]] = -torch.inf
    drawn, _ = fused_draw(logits, codes, 10, step)
    assert not torch.isin(drawn, torch.tensor([0, 4, 5, 9], device=DEVICE)).any()
    logits[..., 7] = 500.0
    drawn, confidence = fused_draw(logits, codes, 10, step)
    assert (drawn == 7).all()
    assert (confidence[1] == 0).all()  # the row without noise
