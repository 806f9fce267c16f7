"""Folders: every kind of image is read, nothing broken is silent, and the split does not leak."""

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from movq_core.training.folder import list_folder, load_folder
from movq_core.training.image_file import Fit, Framing, UnreadableImage, UnusableData
from movq_core.training.image_set import FolderBatches, LazySquares

FRAMING = Framing(16)


def write(path, seed, size=(40, 30), mode="RGB"):
    """A picture of one colour with noise, of its own for each seed."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 40, (size[1], size[0], 3)) + rng.integers(0, 200, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).convert(mode).save(path)


@pytest.fixture
def classes(tmp_path):
    """Three classes of 20 images, in formats of all sorts."""
    root = tmp_path / "images"
    for index in range(60):
        name = ("a.png", "b.jpg", "c.webp", "d.gif", "e.bmp")[index % 5]
        size = (40, 30) if index % 2 else (9, 50)
        write(root / ("cats", "dogs", "no pets")[index % 3] / f"{index}{name}", index, size)
    return root


def test_classes_are_the_folders_names(classes, tmp_path):
    folder = load_folder(classes, FRAMING, tmp_path / "cache")
    assert folder.labels == ("cats", "dogs", "no pets")
    assert np.bincount(folder.heldout.classes).tolist() == [2, 2, 2]
    assert np.bincount(folder.train.classes).tolist() == [18, 18, 18]
    assert folder.heldout.pixels().shape == (6, 3, 16, 16)
    assert folder.broken == ()


def test_a_flat_folder_has_no_classes(tmp_path):
    for index in range(20):
        write(tmp_path / "flat" / f"{index}.png", index)
    folder = load_folder(tmp_path / "flat", FRAMING, tmp_path / "cache")
    assert folder.labels == ()
    assert set(folder.train.classes) == {0}, "the null class of a prior without classes"
    assert (len(folder.train), len(folder.heldout)) == (18, 2)


def test_broken_files_are_named_counted_and_skipped(classes, tmp_path, caplog):
    whole = (classes / "cats" / "0a.png").read_bytes()
    (classes / "cats" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (classes / "dogs" / "empty.jpg").touch()
    (classes / "dogs" / "notes.txt").write_text("no image, and does not say it is one")
    with caplog.at_level(logging.WARNING):
        folder = load_folder(classes, FRAMING, tmp_path / "cache")
    assert folder.broken == ("cats/cut.png", "dogs/empty.jpg")
    assert "skipped cats/cut.png" in caplog.text
    assert len(folder.train) + len(folder.heldout) == 60
    assert load_folder(classes, FRAMING, tmp_path / "cache").broken == folder.broken, "and so from the cache"


def test_copies_are_on_one_side_whatever_their_names(classes, tmp_path):
    for number, path in enumerate(sorted(classes.rglob("*.png"))):
        shutil.copy(path, path.with_name(f"copy-{number}.png"))
    folder = load_folder(classes, FRAMING, tmp_path / "cache")
    assert not set(folder.train.bases) & set(folder.heldout.bases)
    assert len(set(folder.heldout.bases)) == len(folder.heldout), "a copy counts once in a figure"
    again = load_folder(classes.rename(tmp_path / "elsewhere"), FRAMING, tmp_path / "other")
    assert set(again.heldout.bases) == set(folder.heldout.bases)


def test_the_cache_is_used_and_seen_through_when_files_change(classes, tmp_path, monkeypatch):
    first = load_folder(classes, FRAMING, tmp_path / "cache")
    with monkeypatch.context() as nothing_is_decoded:
        nothing_is_decoded.setattr(Framing, "square", None)
        assert load_folder(classes, FRAMING, tmp_path / "cache").fingerprint == first.fingerprint
    write(classes / "cats" / "new.png", 99)
    changed = load_folder(classes, FRAMING, tmp_path / "cache")
    assert changed.fingerprint != first.fingerprint
    assert len(changed.train) == 1 + len(first.train)


def test_a_folder_too_large_for_the_cache_gives_the_same_batches(classes, tmp_path):
    cached = load_folder(classes, FRAMING, tmp_path / "cache")
    lazy = load_folder(classes, FRAMING, tmp_path / "index only", cache_bytes=1000)
    assert isinstance(lazy.train.squares, LazySquares)
    one, other = (
        FolderBatches(folder.train, 8).draw(np.random.default_rng(5), slice(2, 6))
        for folder in (cached, lazy)
    )
    assert torch.equal(one, other)


def test_ranks_draw_parts_of_one_batch_and_stay_in_step(classes, tmp_path):
    batches = FolderBatches(load_folder(classes, FRAMING, tmp_path / "cache").train, 6)
    rngs = [np.random.default_rng(1) for _ in range(3)]
    for _ in range(2):
        whole = batches.draw(rngs[0])
        parts = [batches.draw(rng, part) for rng, part in zip(rngs[1:], (slice(3), slice(3, 6)), strict=True)]
        assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (6, 3, 16, 16)
    assert -1 <= whole.min() < whole.max() <= 1


def test_versions_are_the_middle_and_then_others(classes, tmp_path):
    images = load_folder(classes, FRAMING, tmp_path / "cache").train
    parts = list(images.versions(3, flip=True, rng=np.random.default_rng(0), at_once=50))
    assert [part.pixels.shape for part in parts] == [(50, 3, 3, 16, 16), (4, 3, 3, 16, 16)]
    assert torch.equal(torch.cat([part.pixels[:, 0] for part in parts]), images.pixels())
    assert not torch.equal(parts[0].pixels[:, 0], parts[0].pixels[:, 1])


def saved(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return (tmp_path / name).read_bytes()


def test_what_is_transparent_becomes_white(tmp_path):
    square = Framing(16, Fit.PAD).square(saved(tmp_path, Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert square.min() == 255
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0])
    assert FRAMING.square(saved(tmp_path, palette, transparency=0)).min() == 255


def test_a_photograph_is_turned_upright(tmp_path):
    lying = Image.new("RGB", (32, 16), "red")
    lying.paste("blue", (0, 0, 16, 16))  # left half; upright it is the top
    exif = Image.Exif()
    exif[0x0112] = 6
    square = Framing(16, Fit.PAD).square(saved(tmp_path, lying, exif=exif))
    assert square[4, 9].tolist() == [0, 0, 255]
    assert square[13, 9].tolist() == [255, 0, 0]


def test_crop_covers_and_pad_shows_the_whole(tmp_path):
    wide = Image.new("RGB", (40, 10), "blue")
    wide.paste("red", (0, 0, 10, 10))
    wide = saved(tmp_path, wide)
    cropped, padded = Framing(16).square(wide), Framing(16, Fit.PAD).square(wide)
    assert cropped.shape == padded.shape == (18, 18, 3)
    assert (cropped == (0, 0, 255)).all(), "the red end is cut off"
    assert padded[9, 2].tolist() == pytest.approx([255, 0, 0], abs=2)
    assert padded[2, 9].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode(tmp_path, mode):
    name = {"CMYK": "image.jpg", "F": "image.tiff"}.get(mode, "image.png")
    image = Image.new("I", (20, 20), 40_000).convert("I;16") if mode == "I;16" else Image.new(mode, (20, 20))
    square = FRAMING.square(saved(tmp_path, image, name))
    assert square.shape == (18, 18, 3)
    if mode == "I;16":
        assert square.max() == 40_000 // 256


def test_unreadable_bytes():
    with pytest.raises(UnreadableImage):
        FRAMING.square(b"no image")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "0 different images.* at least 20"),
        (["a.png"], "1 different images.* at least 20"),
        (["a.png", "cats/b.png"], "1 images beside 1 folders"),
        (["cats/a.png", "dogs/readme.txt"], "No images in the class folders dogs"),
        ([*(f"cats/{i}.png" for i in range(25)), "dogs/a.png"], "'dogs' has 1 different images.* at least 2"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(tmp_path, files, message):
    root = tmp_path / "images"
    root.mkdir()
    for seed, name in enumerate(files):
        (root / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            write(root / name, seed)
        else:
            (root / name).touch()
    with pytest.raises(UnusableData, match=message):
        load_folder(root, FRAMING, tmp_path / "cache")


def test_no_folder(tmp_path):
    with pytest.raises(UnusableData, match="is not a folder"):
        list_folder(tmp_path / "nothing")
