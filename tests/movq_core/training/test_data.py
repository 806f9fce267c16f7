"""Data: the split does not leak, and a batch is what it says."""

import numpy as np
import torch

from movq_core.training.classes import CLASSES, LABELS, class_of
from movq_core.training.data import (
    WHITE,
    TokenizerBatches,
    base_weights,
    composite,
    heldout_emoji,
    load_emoji,
    load_photographs,
    shifted,
    to_pixels,
)
from movq_core.training.prepare_data import Emoji, base_of, split_bases


def test_variants_share_their_base():
    waving = ["1F44B", "1F44B-1F3FB", "1F44B-1F3FF"]
    assert {base_of(u) for u in waving} == {"1f44b"}
    farmers = ["1F468-200D-1F33E", "1F469-1F3FD-200D-1F33E", "1F9D1-200D-1F33E"]
    assert {base_of(u) for u in farmers} == {"1f33e"}
    assert base_of("1F468") == "1f468", "a man alone is still somebody"


def test_no_base_is_on_both_sides_and_every_class_on_each(tmp_path):
    emoji = [
        Emoji(tmp_path, f"{base}", f"base-{base}", class_id=base % 4) for base in range(80) for _ in range(3)
    ]
    held_out = split_bases(emoji, 0.1, np.random.default_rng(0))
    assert len(held_out) == 8
    assert {int(b.removeprefix("base-")) % 4 for b in held_out} == {0, 1, 2, 3}
    again = split_bases(list(reversed(emoji)), 0.1, np.random.default_rng(0))
    assert held_out == again, "the split must not depend on the order of the files"


def test_classes():
    assert 10 <= len(LABELS) <= 15
    parts = [part for group in CLASSES.values() for part in group]
    assert len(set(parts)) == len(parts), "a subcategory is in two classes"
    assert LABELS[class_of("heart", "heart")] == "heart"
    assert LABELS[class_of("transport-ground", "bus")] == "vehicle"
    assert class_of("transport-ground", "traffic_light") == -1
    assert class_of("hotel", "bellhop_bell") == LABELS.index("building")
    assert class_of("music", "notes") == -1


def test_transparent_becomes_the_background():
    rgba = np.zeros((1, 2, 2, 4), np.uint8)
    rgba[0, 0, 0] = (255, 0, 0, 255)
    pixels = to_pixels(composite(rgba, WHITE))
    assert pixels.shape == (1, 3, 2, 2)
    assert pixels[0, :, 0, 0].tolist() == [1, -1, -1]
    assert pixels[0, :, 1, 1].tolist() == [1, 1, 1]


def test_a_shift_moves_and_never_wraps():
    images = np.zeros((50, 8, 8, 4), np.uint8)
    images[:, 7, 7] = 255
    moved = shifted(images, 2, np.random.default_rng(0))
    assert moved[:, :4, :4].max() == 0, "what left on one side came in on the other"
    assert 0 < (moved[..., 3] > 0).sum() < 50, "some moved out, some stayed in"


def test_bases_are_drawn_equally_often():
    weights = base_weights(np.array(["a", "a", "a", "b"]))
    assert np.allclose(weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_a_batch_mixes_emoji_and_patches_and_repeats_with_its_seed(data):
    batches = TokenizerBatches(load_emoji(data, "train"), load_photographs(data, "train"), 8)
    first, again, other = (batches.draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (8, 3, 16, 16)
    assert -1 <= first.min() < first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for share in (0.0, 1.0):
        alone = TokenizerBatches(batches.emoji, batches.photographs, 4, emoji_share=share)
        assert alone.draw(np.random.default_rng(0)).shape == (4, 3, 16, 16)


def test_held_out_counts_each_base_once(data):
    emoji, pixels = heldout_emoji(data)
    assert len(pixels) == len(set(emoji.bases)) == 9


def test_ranks_draw_parts_of_one_batch_and_stay_in_step(data):
    batches = TokenizerBatches(load_emoji(data, "train"), load_photographs(data, "train"), 8)
    rngs = [np.random.default_rng(3) for _ in range(3)]
    for _ in range(2):
        whole = batches.draw(rngs[0])
        halves = [
            batches.draw(rng, part) for rng, part in zip(rngs[1:], (slice(0, 4), slice(4, 8)), strict=True)
        ]
        assert torch.equal(torch.cat(halves), whole)
