"""Example pictures: what a request of that seed gives, one a class."""

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from movq_core.bundle import ModelBundle
from movq_core.params import UnmaskOrder
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.pixels import PixelTokenizer
from movq_core.training.examples import main
from worker.fakes import TINY

app = typer.Typer()
app.command()(main)


def test_a_picture_a_class_by_the_bundles_own_sampling(sharp_bundle, tmp_path):
    sampling = TINY.sampling.model_copy(update={"steps": 3, "order": UnmaskOrder.HALTON})
    manifest = TINY.model_copy(update={"sampling": sampling})
    ModelBundle(manifest, sharp_bundle.movq, sharp_bundle.maskgit).save(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path), "--seed", "5"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "examples").iterdir()) == ["0.png", "1.png", "2.png"]
    params = sampling.model_copy(update={"seed": 5})
    codes = torch.cat([generate_codes(sharp_bundle.maskgit, class_id, params) for class_id in range(3)])
    expected = [PixelTokenizer(sharp_bundle.movq).decode(one)[0].numpy() for one in codes.split(1)]
    for class_id in range(3):
        with Image.open(tmp_path / "examples" / f"{class_id}.png") as picture:
            assert np.array_equal(np.asarray(picture), expected[class_id])


@pytest.mark.parametrize("sentence", ["is not a bundle", "has no classes"])
def test_a_folder_without_classes_is_refused_in_a_sentence(tmp_path, sentence):
    if sentence == "has no classes":
        ModelBundle.random(TINY.model_copy(update={"maskgit": None, "labels": ()})).save(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert sentence in result.output
    assert not (tmp_path / "examples").exists()


def test_the_demo_shows_every_class_it_has():
    """Committed with it: the page shows them beside the classes' names."""
    folder = Path(__file__).parents[3] / "models" / "emoji-64"
    classes = len(ModelBundle.load(folder).manifest.labels)
    for class_id in range(classes):
        with Image.open(folder / "examples" / f"{class_id}.png") as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")
