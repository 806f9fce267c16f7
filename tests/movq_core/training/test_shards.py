"""Shards: real tar files, read by WebDataset; a run that was cut draws what the uncut one draws."""

import io
import logging

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image

from movq_core.training.image_file import Framing, UnusableData
from movq_core.training.shards import ShardBatches, Shards

FRAMING = Framing(16)
COUNT = 50


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 24), (colour, colour, colour)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path):
    """50 images in five shards; image i is of grey 5*i, so that a batch tells which it holds."""
    for shard in range(5):
        with wds.TarWriter(str(tmp_path / f"train-{shard}.tar")) as tar:
            for index in range(shard * 10, shard * 10 + 10):
                tar.write({"__key__": f"{index:04}", "png": png(5 * index), "cls": index % 3})
    return Shards.open(str(tmp_path / "train-{0..4}.tar"), FRAMING)


def greys(pixels):
    """Which images a batch holds."""
    return pixels[:, 0, 0, 0].add(1).mul(127.5 / 5).round().int().tolist()


def draws(batches, count, seed=0, part=slice(None)):
    rng = np.random.default_rng(seed)
    return [batches.draw(rng, part) for _ in range(count)]


def test_samples_are_counted_without_being_read(shards):
    assert shards.sizes.tolist() == [10] * 5


def test_an_epoch_holds_every_image_once_in_no_order(shards):
    seen = [grey for batch in draws(ShardBatches(shards, 10), 5) for grey in greys(batch)]
    assert sorted(seen) == list(range(COUNT))
    assert seen != sorted(seen)
    again = [grey for batch in draws(ShardBatches(shards, 10, seed=1), 5) for grey in greys(batch)]
    assert seen != again


@pytest.mark.parametrize("cut_at", [1, 7, 23])
def test_a_cut_run_draws_the_same_batches_as_the_uncut_one(shards, cut_at):
    """Positions within the first epoch, and within the second and fifth of most lanes."""
    uncut_rng, cut_rng = np.random.default_rng(0), np.random.default_rng(0)
    uncut, cut = ShardBatches(shards, 10), ShardBatches(shards, 10)
    for _ in range(cut_at):
        uncut.draw(uncut_rng)
        cut.draw(cut_rng)
    resumed = ShardBatches(shards, 10)
    resumed.load_state_dict(cut.state_dict())
    for _ in range(8):
        assert torch.equal(uncut.draw(uncut_rng), resumed.draw(cut_rng))


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_ranks_draw_parts_of_one_batch(shards, ranks):
    """3 lanes of 2 rows: for 2 and 6 ranks some lanes are shared."""
    whole = draws(ShardBatches(shards, 6), 12)
    each = 6 // ranks
    parts = [draws(ShardBatches(shards, 6), 12, part=slice(r * each, (r + 1) * each)) for r in range(ranks)]
    for batch, *rows in zip(whole, *parts, strict=True):
        assert torch.equal(batch, torch.cat(rows))


def test_a_rank_opens_the_shards_of_its_own_lanes_only(shards, monkeypatch):
    batches, opened = ShardBatches(shards, 10, shuffle=0), []
    read = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, order, *a: opened.extend(order) or read(self, order, *a))
    draws(batches, 1, part=slice(0, 2))
    assert len(opened) == 1


def test_a_run_goes_on_with_another_number_of_ranks(shards):
    rng, other_rng = np.random.default_rng(0), np.random.default_rng(0)
    alone, rank = ShardBatches(shards, 10), ShardBatches(shards, 10)
    for _ in range(3):
        alone.draw(rng)
        rank.draw(other_rng, slice(0, 5))
    resumed = ShardBatches(shards, 10)
    resumed.load_state_dict(rank.state_dict())
    assert torch.equal(alone.draw(rng), resumed.draw(other_rng))


def test_broken_images_are_logged_once_and_the_next_stands_in(tmp_path, caplog):
    with wds.TarWriter(str(tmp_path / "a.tar")) as tar:
        for index in range(6):
            tar.write({"__key__": f"{index}", "png": png(5 * index) if index != 3 else b"broken"})
    batches = ShardBatches(Shards.open(str(tmp_path / "a.tar"), FRAMING), 6, shuffle=0)
    with caplog.at_level(logging.WARNING):
        first, second = draws(batches, 2)
    assert greys(first) == greys(second) == [0, 1, 2, 4, 4, 5]
    assert len(batches.broken) == 1
    assert caplog.text.count("skipped") == 1


def test_nothing_but_broken_images_is_an_error(tmp_path):
    with wds.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "0", "txt": b"no image"})
    batches = ShardBatches(Shards.open(str(tmp_path / "a.tar"), FRAMING), 2)
    with pytest.raises(UnusableData, match="broken images in a row"):
        draws(batches, 1)


def test_versions_carry_the_classes(shards):
    parts = list(shards.versions(2, flip=True, rng=np.random.default_rng(0), at_once=32))
    assert [part.pixels.shape for part in parts] == [(32, 2, 3, 16, 16), (18, 2, 3, 16, 16)]
    assert np.concatenate([part.classes for part in parts]).tolist() == [i % 3 for i in range(COUNT)]
    assert len({base for part in parts for base in part.bases}) == COUNT


def test_half_labelled_shards_are_refused(tmp_path):
    with wds.TarWriter(str(tmp_path / "a.tar")) as tar:
        tar.write({"__key__": "0", "png": png(0), "cls": 1})
        tar.write({"__key__": "1", "png": png(1)})
    with pytest.raises(UnusableData, match="some have none"):
        list(Shards.open(str(tmp_path / "a.tar"), FRAMING).versions(1))


def test_shards_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UnusableData, match=r"2 of 2 shards are not there.*train-0\.tar"):
        Shards.open(str(tmp_path / "train-{0..1}.tar"), FRAMING)
    wds.TarWriter(str(tmp_path / "empty.tar")).close()
    with pytest.raises(UnusableData, match="holds no samples"):
        Shards.open(str(tmp_path / "empty.tar"), FRAMING)
