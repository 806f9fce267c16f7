"""What a recipe's keys do: each is seen in the weights, the gradients or the files."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from movq_core.models.movq import MoVQ
from movq_core.training.checkpoints import Checkpoints, UnusableCheckpoint
from movq_core.training.common import learning_rate, save_checkpoint
from movq_core.training.evaluation.weights_file import WeightsError
from movq_core.training.train_movq import load_weights
from tests.movq_core.training.trainers import prior_trainer, tokenizer_trainer


def after(trainer, steps=3):
    for _ in range(steps):
        trainer.train_step()
    return trainer


def differing(a, b):
    """Names of the tensors that are not equal to the bit."""
    return {name for name, tensor in a.items() if not torch.equal(tensor, b[name])}


def copied(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_recomputed_activations_change_nothing(data):
    kept = after(tokenizer_trainer(data, steps=9, disc_weight=0.8))
    recomputed = after(tokenizer_trainer(data, steps=9, disc_weight=0.8, checkpoint_activations=True))
    assert not differing(kept.movq.state_dict(), recomputed.movq.state_dict())
    dropped = [
        after(prior_trainer(steps=9, checkpoint_activations=c)).prior.state_dict() for c in (False, True)
    ]
    assert not differing(*dropped), "dropout is drawn again"


def test_recomputed_activations_are_not_kept(data):
    saved = []
    for recompute in (False, True):
        trainer = tokenizer_trainer(data, steps=9, checkpoint_activations=recompute)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t
        ):
            trainer.learner(torch.zeros(4, 3, 16, 16))
        saved.append(sum(sizes))
    assert saved[1] < 0.5 * saved[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's tracer looks at it
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_compute_the_same(data, monkeypatch, recompute):
    """Traced for real, run by the eager backend: the code that a compiler would make takes minutes."""
    torch._dynamo.reset()
    counters.clear()
    recipe = {"steps": 9, "disc_weight": 0.8, "checkpoint_activations": recompute}
    plain = after(tokenizer_trainer(data, **recipe), 2)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    traced = after(tokenizer_trainer(data, compile=True, **recipe), 2)
    assert counters["stats"]["unique_graphs"] > 8, "every shape of a block has its own"
    assert counters["frames"]["ok"] == counters["frames"]["total"], "none was given up"
    for name, tensor in plain.movq.state_dict().items():
        torch.testing.assert_close(traced.movq.state_dict()[name], tensor, atol=1e-4, rtol=0)


def test_bfloat16_is_for_the_convs_and_not_for_the_quantiser(data):
    trainer = tokenizer_trainer(data, steps=9, precision="bfloat16")
    seen = {}
    trainer.movq.encoder.conv_out.register_forward_hook(lambda *a: seen.update(conv=a[-1].dtype))
    trainer.movq.quantizer.register_forward_hook(lambda *a: seen.update(z=a[1][0].dtype, z_q=a[2].z_q.dtype))
    trainer.movq.decoder.conv_out.register_forward_hook(lambda *a: seen.update(pixels=a[-1].dtype))
    micro_batch = trainer._backward(trainer._draw()[0], last=True)
    assert seen == {
        "conv": torch.bfloat16,
        "z": torch.float32,
        "z_q": torch.float32,
        "pixels": torch.bfloat16,
    }
    assert {value.dtype for value in micro_batch.figures.values()} == {torch.float32}
    trainer.codebook.update(micro_batch.z, micro_batch.codes)
    assert trainer.movq.quantizer.codebook.dtype == torch.float32


def test_micro_batches_add_up_to_the_batch():
    """Also where the micro-batches have masked different numbers of codes."""
    whole, parts = (after(prior_trainer(dropout=0.0, steps=9, accumulate=a)) for a in (1, 4))
    for name, tensor in whole.prior.state_dict().items():
        torch.testing.assert_close(parts.prior.state_dict()[name], tensor, atol=1e-6, rtol=0)


def test_commitment_weighs_the_encoders_term_and_codebook_weight_the_codebooks(data):
    def gradients(**weights):
        trainer = tokenizer_trainer(data, steps=9, codebook="gradient", **weights)
        z = trainer.movq.encode(trainer._draw()[0])
        trainer._quantiser_loss(trainer.movq.quantizer(z), z, {}).backward()
        return trainer.movq.quant_conv.weight.grad, trainer.movq.quantizer.codebook.grad

    z, codebook = gradients(commitment=0.25, codebook_weight=1.0)
    z_of_more, codebook_of_more = gradients(commitment=0.5, codebook_weight=3.0)
    torch.testing.assert_close(z_of_more, 2 * z)
    torch.testing.assert_close(codebook_of_more, 3 * codebook)


def test_the_optimiser_moves_the_codebook_where_it_learns_by_gradient(data):
    trainer = tokenizer_trainer(data, steps=9, codebook="gradient", revive_below=0.0)
    before = trainer.movq.quantizer.codebook.detach().clone()
    trainer.train_step()
    moved = (trainer.movq.quantizer.codebook - before).abs()
    assert 0 < moved.max() < 1e-3, "a step of Adam, not a jump to the mean"


def test_the_decoder_alone_learns_from_a_tokenizers_weights(data, tmp_path):
    first = after(tokenizer_trainer(data, steps=9))
    Checkpoints(tmp_path).save(first.state_dict())
    weights = load_weights(tmp_path / "checkpoint.pt")
    second = tokenizer_trainer(data, steps=9, train="decoder", disc_weight=0.8)
    second.start_from(weights)
    assert not differing(weights, copied(second.movq))
    after(second)
    learnt = differing(weights, copied(second.movq))
    assert {name.split(".")[0] for name in learnt} == {"decoder", "post_quant_conv"}
    assert differing(weights, copied(second.ema.module)) == learnt
    assert MoVQ(first.config).load_state_dict(weights)


def test_a_run_may_begin_with_weights_and_its_codebook_stays_where_it_is(data):
    first = after(tokenizer_trainer(data, steps=9), 9)
    second = tokenizer_trainer(data, steps=9, seed=1)
    second.start_from(copied(first.ema.module))
    before = second.movq.quantizer.codebook.clone()
    figures = second.train_step()
    assert (second.movq.quantizer.codebook - before).abs().mean() < 0.02 * before.abs().mean()
    assert figures["revived"] == 0


def test_the_perceptual_term_is_part_of_fidelity(data):
    trainer = tokenizer_trainer(data, steps=9)
    plain = trainer.train_step()["fidelity"]
    trainer = tokenizer_trainer(data, steps=9)
    trainer.recipe = trainer.recipe.model_copy(update={"perceptual": 2.0})
    trainer.lpips = lambda a, b: torch.full((len(a),), 0.25)
    figures = trainer.train_step()
    assert figures["lpips"] == pytest.approx(0.25)
    assert figures["fidelity"] == pytest.approx(plain + 0.5)


def test_says_that_the_lpips_weights_are_not_there(data, tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.pt"):
        tokenizer_trainer(data, steps=9, perceptual=1.0, lpips_weights=tmp_path / "nothing.pt")


def test_the_last_checkpoints_are_kept_and_the_newest_has_a_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load() is None
    for step in (5, 10, 1000):
        checkpoints.save({"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-0000010.pt",
        "checkpoint-0001000.pt",
        "checkpoint.pt",
    ]
    assert checkpoints.load() == {"step": 1000}


def test_says_what_a_checkpoint_of_before_is_still_good_for(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", {"step": 3, "torch_rng": torch.get_rng_state()})
    with pytest.raises(UnusableCheckpoint, match="can be exported"):
        Checkpoints(tmp_path).load()


def test_rates_warm_up_and_fall_as_the_schedule_says():
    def rates(schedule):
        return [learning_rate(step, 110, 1.0, 10, floor=0.0, schedule=schedule) for step in (4, 10, 60, 110)]

    assert rates("constant") == pytest.approx([0.5, 1.0, 1.0, 1.0])
    assert rates("linear") == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert rates("cosine") == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert learning_rate(35, 110, 1.0, 10, floor=0.0) == pytest.approx(0.854, abs=1e-3)
