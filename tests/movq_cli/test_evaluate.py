"""`movq evaluate`, as it is typed, with an untrained bundle."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from movq_cli.app import app
from movq_core.bundle import ModelBundle
from movq_core.training.evaluation.lpips import vgg16_features
from worker.fakes import TINY

FRECHET = "Frechet distance (movq encoder features)"


@pytest.fixture
def bundle(tmp_path):
    ModelBundle.random(TINY).save(tmp_path / "bundle")
    return tmp_path / "bundle"


def folder(path, count=6, seed=0):
    path.mkdir()
    for index, image in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 24, 32, 3), np.uint8)):
        Image.fromarray(image).save(path / f"{index}.png")
    return path


def run(*arguments, fails=False):
    result = CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])
    assert result.exit_code == (1 if fails else 0), result.output
    assert isinstance(result.exception, SystemExit | None)
    return result.output


def test_a_bundle_and_its_samples_on_a_folder(bundle, tmp_path):
    images, out, saved = folder(tmp_path / "images"), tmp_path / "f.json", tmp_path / "real.npz"
    shown = run(bundle, "--images", images, "--samples", 5, "--json", out, "--save-statistics", saved)
    assert "PSNR" in shown
    figures = json.loads(out.read_text())["figures"]
    assert 0.0 < figures["reconstruction"]["PSNR"]["value"] < 30.0
    assert figures["reconstruction"][FRECHET]["value"] >= 0.0
    assert figures["samples"]["samples"]["value"] == 5
    assert 0.0 <= figures["samples"]["recall (movq encoder features)"]["value"] <= 1.0
    assert not {"FID", "rFID", "IS"} & {*figures["reconstruction"], *figures["samples"]}
    # The statistics stand for the folder: the same distance without its images.
    again = tmp_path / "again.json"
    run(bundle, "--generated", images, "--reference", saved, "--view", "crop", "--json", again)
    assert json.loads(again.read_text())["figures"]["distributions"][FRECHET]["value"] < 1e-9


def test_images_may_be_measured_whole(bundle, tmp_path):
    out = tmp_path / "f.json"
    run(bundle, "--images", folder(tmp_path / "images"), "--view", "whole", "--json", out)
    assert json.loads(out.read_text())["view"] == "whole"


def test_a_pair_of_folders_needs_no_bundle(tmp_path):
    out = tmp_path / "f.json"
    real, generated = folder(tmp_path / "real"), folder(tmp_path / "generated", seed=1)
    run("--real", real, "--generated", generated, "--json", out)
    figures = json.loads(out.read_text())["figures"]
    assert figures["pairs"]["pairs"]["value"] == 6
    assert figures["distributions"]["FID"]["value"] is None


def test_lpips_is_measured_with_weights_that_are_allowed(tmp_path):
    path = tmp_path / "vgg16-397923af.pth"
    torch.save({f"features.{n}": t for n, t in vgg16_features().state_dict().items()}, path)
    pair = ("--real", folder(tmp_path / "real"), "--generated", folder(tmp_path / "generated", seed=1))
    assert "SHA-256" in run(*pair, "--weights-dir", tmp_path, fails=True)
    out = tmp_path / "f.json"
    run(*pair, "--weights-dir", tmp_path, "--allow-unknown-weights", "--json", out)
    assert json.loads(out.read_text())["figures"]["pairs"]["LPIPS (VGG16)"]["value"] > 0.0


def test_what_is_wrong_is_one_sentence(bundle, tmp_path):
    images = folder(tmp_path / "images")
    assert "no is not a folder" in run(bundle, "--images", tmp_path / "no", fails=True)
    assert "config.json" in run(tmp_path, "--images", images, fails=True)
    missing = run(bundle, "--images", images, "--inception-weights", tmp_path / "i.pth", fails=True)
    assert "pt_inception-2015-12-05-6726825d.pth" in missing
    assert "--generated" in run(bundle, fails=True)
    assert "needs a bundle" in run("--images", images, fails=True)
    ModelBundle(
        TINY.model_copy(update={"maskgit": None, "labels": ()}), ModelBundle.load(bundle).movq, None
    ).save(tmp_path / "tokenizer")
    assert "no prior" in run(tmp_path / "tokenizer", "--images", images, "--samples", 2, fails=True)
