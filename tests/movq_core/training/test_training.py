"""The training scripts, run for real on coloured discs: they learn, resume exactly, and make a bundle."""

import numpy as np
import pytest
import torch
import typer
from tensorboard.backend.event_processing import event_accumulator
from typer.testing import CliRunner

from movq_core.bundle import ModelBundle
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.errors import BundleError
from movq_core.models.maskgit import MaskGIT
from movq_core.params import MaskSchedule
from movq_core.training import encode_dataset, export, prepare_data, report, train_maskgit, train_movq
from movq_core.training.checkpoints import Checkpoints
from movq_core.training.common import save_checkpoint
from movq_core.training.data import TokenizerBatches
from movq_core.training.encode_dataset import CodeSet, load_codes
from movq_core.training.evaluate import code_nll, evaluate_reconstruction, masked_nll, unigram_nll
from movq_core.training.recipes import tokenizer_plan
from movq_core.training.train_maskgit import draw_mask
from tests.movq_core.training.trainers import prior_trainer, tokenizer_trainer


def equal_states(a, b):
    """Two trainers' states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal_states, a, b))
    return a == b


class Reels(TokenizerBatches):
    """Batches whose position in the data is their own, as shards': each is darker than the one before."""

    position = 0

    def draw(self, rng, part=slice(None)):
        object.__setattr__(self, "position", self.position + 1)
        return super().draw(rng, part) - 0.01 * self.position

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        object.__setattr__(self, "position", state["position"])


CUT = {
    "tokenizer": lambda data: tokenizer_trainer(data, steps=12),
    "critic": lambda data: tokenizer_trainer(data, steps=12, disc_weight=0.8, disc_start=3),
    "bfloat16": lambda data: tokenizer_trainer(
        data, steps=12, precision="bfloat16", accumulate=2, codebook="gradient", entropy_weight=0.1
    ),
    "position": lambda data: tokenizer_trainer(data, steps=12, source=Reels),
    "prior": lambda _: prior_trainer(steps=12),
    "autoregressive": lambda _: prior_trainer("autoregressive", steps=12, precision="bfloat16", accumulate=2),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_run_cut_in_half_equals_the_uncut_run(data, tmp_path, kind):
    uncut = CUT[kind](data)
    for _ in range(12):
        uncut.train_step()
    cut = CUT[kind](data)
    for _ in range(6):
        cut.train_step()
    Checkpoints(tmp_path).save(cut.state_dict())
    resumed = CUT[kind](data)
    resumed.load_state_dict(Checkpoints(tmp_path).load())
    for _ in range(6):
        resumed.train_step()

    assert resumed.step == 12
    assert equal_states(resumed.state_dict(), uncut.state_dict())


def test_the_tokenizer_learns(data):
    trainer = tokenizer_trainer(data, emoji_share=1.0, steps=150)
    losses = [trainer.train_step()["fidelity"] for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5]), "discs on white are easy; noise is not"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_critic_starts_when_it_is_told_in_optimiser_steps(data, accumulate):
    trainer = tokenizer_trainer(data, steps=4, disc_weight=0.8, disc_start=2, accumulate=accumulate)
    assert ["critic" in trainer.train_step() for _ in range(4)] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_the_prior_learns_its_classes(kind):
    trainer = prior_trainer(kind, steps=120, peak_rate=3e-3)
    nll = masked_nll if kind == "masked" else code_nll
    before = nll(trainer.ema.module, trainer.batches.codes)
    for _ in range(120):
        trainer.train_step()
    after = nll(trainer.ema.module, trainer.batches.codes)
    assert before == pytest.approx(np.log(32), abs=0.2)
    assert after < np.log(3) + 0.6, "three codes are possible, given the class"


def test_a_mask_is_per_position_and_channel_and_never_empty():
    rng = np.random.default_rng(0)
    masked = draw_mask((500, 2, 4, 4), MaskSchedule.COSINE, rng)
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
    short = ["steps=6", "batch_size=4", "evaluate_every=3", "log_every=2", "keep_last=2"]
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
    assert tokenizer_plan(str(runs / "movq" / "config.yaml")) == tokenizer_plan("tiny", short)
    assert len(list((runs / "movq").glob("checkpoint-*.pt"))) == 2
    asked = {"loss", "code_usage", "perplexity", "grad_norm", "rate", "images_per_s"}
    assert {f"train/{name}" for name in asked} <= logged(runs / "movq")
    assert {"train/loss", "train/rate", "heldout/nll"} <= logged(runs / "maskgit")


def logged(run):
    """Names of the scalars that a run wrote for TensorBoard."""
    (events,) = (run / "tensorboard").iterdir()
    log = event_accumulator.EventAccumulator(str(events))
    log.Reload()
    return set(log.Tags()["scalars"])


def test_an_autoregressive_prior_is_in_no_bundle(data, tmp_path):
    tokenizer, prior = tokenizer_trainer(data, steps=1), prior_trainer(kind="autoregressive", steps=1)
    save_checkpoint(tmp_path / "movq.pt", tokenizer.state_dict())
    save_checkpoint(tmp_path / "prior.pt", prior.state_dict())
    with pytest.raises(BundleError, match="autoregressive"):
        export.export_bundle(tmp_path / "movq.pt", tmp_path / "prior.pt", tmp_path / "out", ("r", "g", "b"))
    assert not (tmp_path / "out").exists()
