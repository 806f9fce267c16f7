"""The cache of codes: the same whatever the pictures came from, on disk rather than in memory."""

import numpy as np
import pytest
import torch
import typer
import webdataset as wds
from typer.testing import CliRunner

from movq_core.bundle import ModelBundle
from movq_core.config import MOVQ_PRESETS
from movq_core.manifest import Manifest
from movq_core.training import encode_dataset
from movq_core.training.data import Versions, load_emoji
from movq_core.training.encode_dataset import emoji_versions, load_codes, write_codes
from movq_core.training.folder import load_folder
from movq_core.training.image_file import Framing
from tests.movq_core.training.test_folder import write


@pytest.fixture
def bundle(tmp_path):
    made = ModelBundle.random(Manifest(name="tiny", movq=MOVQ_PRESETS["tiny"]))
    made.save(tmp_path / "bundle")
    return made


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    for index in range(24):
        write(root / ("cats", "dogs")[index % 2] / f"{index:02}.png", index)
    return root


def run(*options):
    app = typer.Typer()
    app.command()(encode_dataset.main)
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert result.exit_code == 0, result.output


def test_codes_are_the_tokenizers_and_come_from_disk(bundle, tmp_path):
    pixels = torch.rand(5, 2, 3, 16, 16) * 2 - 1
    parts = [
        Versions(pixels[s], np.arange(5)[s], np.array(["a", "b", "c", "d", "e"])[s])
        for s in (slice(3), slice(3, 5))
    ]
    assert write_codes(bundle.movq, iter(parts), tmp_path / "codes.npz") == 5
    codes = load_codes(tmp_path / "codes.npz")
    assert isinstance(codes.codes, np.memmap)
    expected = bundle.movq.encode_codes(pixels.flatten(0, 1)).unflatten(0, (5, 2))
    assert np.array_equal(codes.codes, expected.numpy())
    assert codes.classes.tolist() == [0, 1, 2, 3, 4]
    assert codes.bases.tolist() == ["a", "b", "c", "d", "e"]


def test_a_cache_that_was_cut_short_is_not_taken_for_whole(bundle, tmp_path):
    def cut():
        yield Versions(torch.zeros(1, 1, 3, 16, 16), np.zeros(1, np.int64), np.array(["a"]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_codes(bundle.movq, cut(), tmp_path / "codes.npz")
    assert not (tmp_path / "codes.npz").exists()


def test_emoji_come_a_few_at_a_time(data):
    emoji = load_emoji(data, "train")
    parts = list(emoji_versions(emoji, 3, 2, np.random.default_rng(0)))
    assert sum(len(part.pixels) for part in parts) == len(emoji.images)
    assert parts[0].pixels.shape[1:] == (3, 3, 16, 16)


def test_a_folder_and_shards_of_its_images_give_the_same_codes(bundle, images, tmp_path):
    folder = load_folder(images, Framing(16), tmp_path / "cache")
    files = {"train": [], "heldout": []}
    for path in sorted(images.rglob("*.png")):
        row = sorted(images.rglob("*.png")).index(path)
        files["heldout" if row in folder.heldout.rows else "train"].append(path)
    for split, paths in files.items():
        with wds.TarWriter(str(tmp_path / f"{split}.tar")) as tar:
            for path in paths:
                label = ("cats", "dogs").index(path.parent.name)
                tar.write({"__key__": path.stem, "png": path.read_bytes(), "cls": label})
    common = ("--bundle", tmp_path / "bundle", "--count", 3, "--out")
    run("--folder", images, *common, tmp_path / "a")
    shards = ("--shards", tmp_path / "train.tar", "--heldout-shards", tmp_path / "heldout.tar")
    run(*shards, *common, tmp_path / "b")
    for split in ("train.npz", "heldout.npz"):
        one, other = load_codes(tmp_path / "a" / split), load_codes(tmp_path / "b" / split)
        assert np.array_equal(one.codes, other.codes)
        assert one.codes.shape[1] == (3 if split == "train.npz" else 1)
        assert np.array_equal(one.classes, other.classes)
        assert np.array_equal(one.bases, other.bases)
