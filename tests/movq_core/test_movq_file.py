"""The file: what goes in comes out, packed to the bit; whatever else comes is refused by one error."""

import contextlib
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movq_core.errors import InvalidMovqFile
from movq_core.movq_file import (
    MAX_PIXELS,
    OVERHEAD_BYTES,
    MovqFile,
    crc_of,
    pack_codes,
    packed_bytes,
    unpack_codes,
)


def packed_file(codes, codebook_size=512, factor=8):
    return MovqFile(
        fingerprint="0123456789ab",
        height=codes.shape[1] * factor,
        width=codes.shape[2] * factor,
        shape=codes.shape,
        codebook_size=codebook_size,
        groups=0,
        class_id=None,
        codes_crc=crc_of(codes),
        payload=pack_codes(codes, codebook_size),
    )


def some_codes(codebook_size=512, shape=(4, 8, 8)):
    return np.random.default_rng(0).integers(0, codebook_size, shape)


def sealed(body):
    """A body with the checksum that belongs to it: damage that only the checks of the header can find."""
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(
    codebook_size=st.integers(2, 65536),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_codes_come_out_of_the_bytes_they_went_into(codebook_size, shape, seed):
    codes = np.random.default_rng(seed).integers(0, codebook_size, shape)
    file = MovqFile.from_bytes(packed_file(codes, codebook_size).to_bytes())
    assert file == packed_file(codes, codebook_size)
    assert np.array_equal(file.check_codes(unpack_codes(file.payload, file.shape, codebook_size)), codes)


@pytest.mark.parametrize(("codebook_size", "size_bytes"), [(512, 288), (1024, 320), (2, 32), (513, 320)])
def test_a_code_takes_log2_of_the_codebook(codebook_size, size_bytes):
    codes = some_codes(codebook_size)
    assert len(pack_codes(codes, codebook_size)) == size_bytes == packed_bytes((4, 8, 8), codebook_size)
    file = packed_file(codes, codebook_size)
    assert len(file.to_bytes()) == size_bytes + OVERHEAD_BYTES
    assert file.bits_per_pixel == 8 * (size_bytes + OVERHEAD_BYTES) / 64**2


def test_the_layout_stays():
    """Version 1, byte by byte: files that were written must stay readable."""
    codes = np.arange(4).reshape(1, 2, 2)
    assert packed_file(codes, 4).to_bytes().hex() == (
        "4d4f5651" "01" "00" "ffff" "0123456789ab" "1000" "1000" "0200" "0200" "01" "0300"
        "84975a2f" "1b" "12e3cc08"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "a side has"),
        ({"height": 0xFFFF, "width": MAX_PIXELS // 0xFFFF + 2}, "at most"),
        ({"shape": (4, 200, 8)}, "a grid of"),
        ({"shape": (4, 8, 7)}, "packed codes for a grid"),
        ({"codebook_size": 511 * 2}, "packed codes for a grid"),
        ({"codebook_size": 0x10001}, "a codebook of"),
        ({"groups": 65}, "65 groups"),
        ({"class_id": 3}, "have no class"),
        ({"groups": 8, "class_id": 0xFFFF}, "class 65535"),
        ({"payload": bytes(287)}, "287 bytes"),
    ],
)
def test_what_the_format_cannot_say_is_not_written(change, words):
    with pytest.raises(InvalidMovqFile, match=words):
        replace(packed_file(some_codes()), **change).to_bytes()


def test_a_reader_says_what_is_wrong():
    data = packed_file(some_codes()).to_bytes()
    for broken, words in [
        (b"", "not a .movq file"),
        (b"\x89PNG" + data, "not a .movq file"),
        (data[:20], "cut short"),
        (data[:-1], "cut short"),
        (data[:4] + b"\x02" + data[5:], "version 2"),
        (data[:40] + bytes([data[40] ^ 1]) + data[41:], "damaged"),
        (sealed(data[:18] + b"\xff\xff\xff\xff" + data[22:-4]), "a grid of"),
    ]:
        with pytest.raises(InvalidMovqFile, match=words):
            MovqFile.from_bytes(broken)


def test_codes_that_cannot_be_are_refused():
    with pytest.raises(InvalidMovqFile, match="code 3 in a codebook of 3"):
        unpack_codes(b"\xc0", (1, 1, 1), 3)
    with pytest.raises(InvalidMovqFile, match="behind the last code"):
        unpack_codes(b"\x01", (1, 1, 1), 3)
    with pytest.raises(InvalidMovqFile, match="not those that went in"):
        packed_file(some_codes()).check_codes(some_codes() ^ 1)


def read_all(data):
    file = MovqFile.from_bytes(data)
    if file.groups == 0:
        file.check_codes(unpack_codes(file.payload, file.shape, file.codebook_size))


@given(data=st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda b: sealed(b"MOVQ\x01" + b))))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_nothing_else(data):
    with contextlib.suppress(InvalidMovqFile):
        read_all(data)


@given(
    edits=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 320),
)
@settings(max_examples=200, deadline=None)
def test_mutated_files_raise_nothing_else(edits, cut):
    data = bytearray(packed_file(some_codes()).to_bytes()[:-4])
    for place, value in edits:
        data[place % len(data)] = value
    for mutant in (sealed(bytes(data)), sealed(bytes(data[:cut])), bytes(data)):
        with contextlib.suppress(InvalidMovqFile):
            read_all(mutant)


def test_a_small_file_cannot_ask_for_much_work():
    """Entropy-coded, 64 million pixels take hours to decode, and could be claimed by 60 bytes."""
    codes = np.zeros((1, 1000, 1000), np.int64)
    file = packed_file(codes).entropy_coded(b"", 8, None)
    assert len(file.payload) == 15_625
    assert MovqFile.from_bytes(file.to_bytes()) == file
    data = file.to_bytes()
    with pytest.raises(InvalidMovqFile, match="11 bytes of coded codes for a grid of"):
        MovqFile.from_bytes(sealed(data[: OVERHEAD_BYTES - 4 + 11]))
