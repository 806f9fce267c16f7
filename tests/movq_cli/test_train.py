"""`movq train` on real folders with the tiny preset: a bundle, a card, and a run that goes on."""

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from movq_cli.train import train
from movq_core.bundle import ModelBundle
from movq_core.sampling.generate import generate_codes
from movq_core.training import two_stage
from movq_core.training.common import load_checkpoint

app = typer.Typer()
app.command()(train)


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small gain nothing by a second thread, and wait for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_images(folder, count, seed):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        noise = rng.integers(0, 60, (20, 24, 3)) + rng.integers(0, 190, 3)
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def classes(tmp_path):
    for seed, name in enumerate(("cats", "dogs")):
        write_images(tmp_path / "images" / name, 12, seed)
    return tmp_path / "images"


def run(tmp_path, folder, *options, out="mine"):
    where = [
        "--out",
        str(tmp_path / "models" / out),
        "--run",
        str(tmp_path / "runs" / out),
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(app, [str(folder), "--preset", "tiny", *where, *options])


def test_class_folders_become_a_bundle_with_a_card(classes, tmp_path):
    (classes / "cats" / "broken.png").write_bytes(b"no image")
    result = run(tmp_path, classes, "--steps", "3", "--fit", "pad")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "22 images to learn from and 2 held out, in 2 classes" in said
    assert "Broken files, skipped: 1 (cats/broken.png)" in said
    assert said.index("About ") < said.index("held-out NLL"), "it says first how long it takes"
    out = tmp_path / "models" / "mine"
    bundle = ModelBundle.load(out)
    assert bundle.manifest.name == "mine"
    assert bundle.manifest.labels == ("cats", "dogs")
    figures = json.loads((out / "figures.json").read_text())
    assert figures["nll_uniform"] == pytest.approx(np.log(32), abs=1e-4)
    assert 0 < figures["psnr_db"] < 60
    card = (out / "README.md").read_text()
    assert "| cats | 11 | 1 |" in card
    assert "Licence: to be written" in card
    assert f"{figures['nll']:.3f}" in card
    for name in ("samples.png", "reconstructions.png"):
        assert f"({name})" in card
        with Image.open(out / name) as picture:
            assert picture.width > 100


def test_a_flat_folder_becomes_an_unconditional_bundle(tmp_path):
    write_images(tmp_path / "flat", 24, 0)
    result = run(tmp_path, tmp_path / "flat", "--steps", "2")
    assert result.exit_code == 0, result.output
    bundle = ModelBundle.load(tmp_path / "models" / "mine")
    assert bundle.manifest.labels == ()
    assert bundle.manifest.sampling.guidance_scale == 1, "there is nothing to guide towards"
    assert generate_codes(bundle.maskgit, None, bundle.manifest.sampling).max() < 32


def test_a_run_that_was_stopped_goes_on_and_ends_as_the_uncut_one(classes, tmp_path, monkeypatch):
    assert run(tmp_path, classes, "--steps", "4", out="uncut").exit_code == 0
    step, taken = two_stage.PriorTrainer.train_step, []

    def stopped(trainer):
        taken.append(trainer)
        if len(taken) == 15:  # 12 to measure the speed; then in the third step
            raise KeyboardInterrupt
        return step(trainer)

    with monkeypatch.context() as ctrl_c:
        ctrl_c.setattr(two_stage.PriorTrainer, "train_step", stopped)
        result = run(tmp_path, classes, "--steps", "4", out="cut")
    assert result.exit_code == 130
    assert "the same command goes on" in result.output
    with monkeypatch.context() as no_tokenizer:
        no_tokenizer.setattr(two_stage.TokenizerTrainer, "train_step", None)
        result = run(tmp_path, classes, "--steps", "4", out="cut")
    assert result.exit_code == 0, result.output
    for stage in ("tokenizer", "prior"):
        one, other = (
            load_checkpoint(tmp_path / "runs" / out / stage / "checkpoint.pt") for out in ("uncut", "cut")
        )
        assert one["step"] == other["step"] == 4
        assert all((one["ema"][name] == other["ema"][name]).all() for name in one["ema"])


def test_minutes_become_steps_of_both_stages(classes, tmp_path, monkeypatch):
    seconds = iter([0.05, 0.02])  # a step of the tokenizer, one of the prior
    monkeypatch.setattr(two_stage, "time_steps", lambda step: next(seconds))
    order = two_stage.Order(classes, tmp_path / "out", tmp_path / "run", "tiny", minutes=1)
    plan = two_stage.TwoStageRun(order).plan
    assert (plan.tokenizer_steps, plan.prior_steps) == (540, 1350), "0.45 minutes each"


def test_what_cannot_be_done_is_said(classes, tmp_path):
    assert run(tmp_path, classes, "--steps", "2").exit_code == 0
    other_seed = run(tmp_path, classes, "--steps", "2", "--seed", "1")
    assert other_seed.exit_code == 1
    assert "began with --preset tiny --seed 0" in other_seed.output
    write_images(classes / "birds", 3, 5)
    changed = run(tmp_path, classes, "--steps", "2")
    assert changed.exit_code == 1
    assert "changed since" in changed.output
    foreign = run(tmp_path, classes, "--steps", "2", "--run", str(tmp_path / "elsewhere"))
    assert foreign.exit_code == 1
    assert "holds a bundle that is not of" in foreign.output
    both = run(tmp_path, classes, "--steps", "2", "--minutes", "1")
    assert both.exit_code == 2
    few = run(tmp_path, classes / "birds", "--steps", "2", out="few")
    assert few.exit_code == 1
    assert "3 different images" in few.output
    assert "at least 20 are needed" in few.output
