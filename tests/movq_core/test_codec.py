"""The codec: the smallest form, never the wrong codes, never another bundle's."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movq_core.bundle import ModelBundle
from movq_core.codec import Codec
from movq_core.errors import InvalidMovqFile
from movq_core.movq_file import MovqFile
from movq_core.params import SamplingParams
from movq_core.sampling.generate import generate_codes
from worker.fakes import TINY

NAME = "0123456789ab"
SIZE = (16, 16)


@pytest.fixture(scope="module")
def bundle():
    """A prior that is sure of every code as long as it knows none."""
    bundle = ModelBundle.random(TINY)
    for part in [*bundle.maskgit.heads, bundle.maskgit.class_embedding]:
        part.weight.data.mul_(400.0)
    return bundle


@pytest.fixture(scope="module")
def codec(bundle):
    return Codec(bundle, NAME)


@pytest.fixture(scope="module")
def expected(bundle):
    """The codes (2, 4, 4) that it expects, given class 1."""
    return generate_codes(bundle.maskgit, 1, SamplingParams(steps=1, temperature=0.1))[0].numpy()


@pytest.fixture(scope="module")
def unexpected():
    return np.random.default_rng(0).integers(0, TINY.movq.codebook_size, (2, 4, 4))


def test_the_smaller_form_is_chosen(codec, expected, unexpected):
    class_ids = (None, 0, 1, 2)
    short, long = codec.compress(expected, SIZE, class_ids, groups=1), codec.compress(unexpected, SIZE)
    alone = [codec.compress(expected, SIZE, (class_id,), groups=1) for class_id in class_ids]
    assert short == min(alone, key=lambda file: len(file.payload))
    assert len(short.payload) < len(codec.pack(expected, SIZE).payload)
    assert long == codec.pack(unexpected, SIZE)
    for file, codes in [(short, expected), (long, unexpected)]:
        assert np.array_equal(codec.codes_in(MovqFile.from_bytes(file.to_bytes())), codes)


def test_pixels_come_back_at_their_size(codec):
    pixels = np.random.default_rng(0).integers(0, 256, (19, 37, 3), np.uint8)
    file = codec.compress(codec.codes_of(pixels), (19, 37))
    assert file.shape == (2, 5, 10)
    assert codec.decode(file).shape == pixels.shape


def test_what_does_not_come_back_is_packed(codec, expected, monkeypatch):
    monkeypatch.setattr(codec._coder, "decode", lambda *_: expected ^ 1)
    assert codec.compress(expected, SIZE, (1,), groups=1).groups == 0
    assert codec.compress(expected, SIZE, (1,), groups=1, verify=False).groups == 1


def test_other_probabilities_are_found_out(codec, expected):
    """The same name and other weights: what a machine that computes otherwise would be."""
    file = codec.compress(expected, SIZE, (1,), groups=1)
    with pytest.raises(InvalidMovqFile, match="probabilities differ"):
        Codec(ModelBundle.random(TINY, seed=1), NAME).codes_in(file)


def test_files_that_do_not_fit_the_bundle(codec, expected, bundle):
    file = codec.compress(expected, SIZE, (1,), groups=1)
    without = ModelBundle(TINY.model_copy(update={"maskgit": None, "labels": ()}), bundle.movq, None)
    for reader, change, words in [
        (codec, {"fingerprint": "ba9876543210"}, f"bundle ba9876543210; tiny is {NAME}"),
        (codec, {"shape": (2, 4, 5)}, r"have codes \(2, 4, 4\) of 32"),
        (codec, {"codebook_size": 64}, "of 64"),
        (codec, {"class_id": 3}, "tiny has 3"),
        (Codec(without, NAME), {}, "has no prior"),
    ]:
        with pytest.raises(InvalidMovqFile, match=words):
            reader.codes_in(replace(file, **change))
    assert Codec(without, NAME).compress(expected, SIZE) == codec.pack(expected, SIZE)


@given(edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_mutated_files_give_the_codes_or_the_declared_error(codec, expected, edits):
    file = codec.compress(expected, SIZE, (1,), groups=1)
    payload = bytearray(file.payload)
    for place, value in edits:
        payload[place % len(payload)] = value
    try:
        codes = codec.codes_in(replace(file, payload=bytes(payload)))
    except InvalidMovqFile:
        return
    assert np.array_equal(codes, expected)
