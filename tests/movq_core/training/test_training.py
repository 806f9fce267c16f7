"""The training scripts, run for real on coloured discs: they learn, resume exactly, and make a bundle."""

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from movq_core.bundle import ModelBundle
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.models.maskgit import MaskGIT
from movq_core.params import MaskSchedule
from movq_core.training import encode_dataset, export, prepare_data, report, train_maskgit, train_movq
from movq_core.training.common import load_checkpoint, save_checkpoint
from movq_core.training.data import TokenizerBatches, load_emoji, load_photographs
from movq_core.training.encode_dataset import CodeSet, load_codes
from movq_core.training.evaluate import evaluate_reconstruction, masked_nll, unigram_nll
from movq_core.training.train_maskgit import PriorBatches, PriorRecipe, PriorTrainer, draw_mask
from movq_core.training.train_movq import TokenizerRecipe, TokenizerTrainer


def tokenizer_trainer(data, emoji_share=0.7, **recipe):
    batches = TokenizerBatches(load_emoji(data, "train"), load_photographs(data, "train"), 4, emoji_share)
    trainer = TokenizerTrainer(
        MOVQ_PRESETS["tiny"], TokenizerRecipe(batch_size=4, warmup=5, **recipe), batches
    )
    trainer.start_codebook(batches=8)
    return trainer


def prior_trainer(**recipe):
    rng = np.random.default_rng(0)
    classes = np.arange(30) % 3
    codes = (classes[:, None, None, None, None] * 10 + rng.integers(0, 3, (30, 2, 2, 4, 4))).astype(np.int16)
    code_set = CodeSet(codes, classes, np.array([f"b{i}" for i in range(30)]))
    return PriorTrainer(MASKGIT_PRESETS["tiny"], PriorRecipe(warmup=5, **recipe), PriorBatches(code_set, 8))


def equal_states(a, b):
    """Two trainers' states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


@pytest.mark.parametrize("kind", ["tokenizer", "tokenizer with a critic", "prior"])
def test_a_run_cut_in_half_equals_the_uncut_run(data, tmp_path, kind):
    def fresh():
        if kind == "prior":
            return prior_trainer(steps=12)
        return tokenizer_trainer(data, steps=12, disc_weight=0.8 if "critic" in kind else 0.0, disc_start=3)

    uncut = fresh()
    for _ in range(12):
        uncut.train_step()
    cut = fresh()
    for _ in range(6):
        cut.train_step()
    save_checkpoint(tmp_path / "checkpoint.pt", cut.state_dict())
    resumed = fresh()
    resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    for _ in range(6):
        resumed.train_step()

    assert resumed.step == 12
    assert equal_states(resumed.state_dict(), uncut.state_dict())


def test_the_tokenizer_learns(data):
    trainer = tokenizer_trainer(data, emoji_share=1.0, steps=150)
    losses = [trainer.train_step()["fidelity"] for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5]), "discs on white are easy; noise is not"


def test_the_critic_starts_when_it_is_told(data):
    trainer = tokenizer_trainer(data, steps=4, disc_weight=0.8, disc_start=2)
    assert ["critic" in trainer.train_step() for _ in range(4)] == [False, False, True, True]


def test_the_prior_learns_its_classes():
    trainer = prior_trainer(steps=120, peak_rate=3e-3)
    before = masked_nll(trainer.ema.module, trainer.batches.codes)
    for _ in range(120):
        trainer.train_step()
    after = masked_nll(trainer.ema.module, trainer.batches.codes)
    assert before == pytest.approx(np.log(32), abs=0.2)
    assert after < np.log(3) + 0.6, "three codes are possible, given the class"


def test_a_mask_is_per_position_and_channel_and_never_empty():
    rng = np.random.default_rng(0)
    masked = draw_mask(torch.Size((500, 2, 4, 4)), MaskSchedule.COSINE, rng)
    counts = masked.flatten(1).sum(1)
    assert counts.min() >= 1
    assert counts.max() == 32
    # E[cos(pi/2 * r)] = 2/pi
    assert counts.float().mean() / 32 == pytest.approx(2 / np.pi, abs=0.04)
    assert (masked[:, 0] != masked[:, 1]).any()


def test_nll_of_a_flat_prior_is_uniform_and_of_the_unigram_what_it_counts():
    prior = MaskGIT(MASKGIT_PRESETS["tiny"]).eval()
    for head in prior.heads:
        torch.nn.init.zeros_(head.weight)
    codes = np.zeros((4, 1, 2, 4, 4), np.int16)
    code_set = CodeSet(codes, np.zeros(4, np.int64), np.array(list("abcd")))
    assert masked_nll(prior, code_set) == pytest.approx(np.log(32), abs=1e-5)
    # 64 zeros in each channel of the class, one added to each of 32 counts
    assert unigram_nll(code_set, code_set, 32) == pytest.approx(-np.log(65 / 96))


def test_a_perfect_tokenizer_scores_high():
    """A stand-in that returns what it got: PSNR is infinite, SSIM 1."""

    class Perfect:
        config = MOVQ_PRESETS["tiny"]

        def encode_codes(self, pixels):
            self.pixels = pixels
            return torch.arange(16).reshape(1, 1, 4, 4)

        def decode_codes(self, codes):
            return self.pixels

    figures = evaluate_reconstruction(Perfect(), torch.rand(1, 3, 16, 16) * 2 - 1)
    assert figures.psnr_db == float("inf")
    assert figures.ssim == pytest.approx(1)
    assert figures.codebook_used == 0.5


@pytest.mark.parametrize(
    "script",
    [prepare_data, train_movq, export, encode_dataset, train_maskgit, report],
    ids=lambda s: s.__name__,
)
def test_every_script_tells_its_options(script):
    app = typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert script.main.__doc__.split(",")[0].split(";")[0].split()[0] in result.output


def test_from_data_to_bundle(data, tmp_path, capsys):
    """prepare -> train_movq -> export -> encode_dataset -> train_maskgit -> export, as `make demo-bundle`."""
    runs, bundle, codes = tmp_path / "runs", tmp_path / "demo", tmp_path / "codes"
    short = ["steps=6", "batch_size=4", "evaluate_every=3"]
    train_movq.main(data, runs / "movq", "tiny", short, device="cpu")
    export.export_bundle(runs / "movq" / "checkpoint.pt", None, bundle, ())
    encode_dataset.main(data, bundle, codes, count=2)
    train_maskgit.main(codes, bundle, runs / "maskgit", "tiny", short, device="cpu")
    prior = runs / "maskgit" / "checkpoint.pt"
    export.export_bundle(runs / "movq" / "checkpoint.pt", prior, bundle, ("r", "g", "b"))

    loaded = ModelBundle.load(bundle)
    assert loaded.manifest.name == "demo"
    assert loaded.manifest.labels == ("r", "g", "b")
    assert load_codes(codes / "train.npz").codes.shape == (60, 2, 2, 4, 4)
    assert "emoji" in capsys.readouterr().out
    assert list((runs / "movq" / "tensorboard").iterdir())
