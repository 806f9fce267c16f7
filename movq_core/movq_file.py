"""MovqFile: a picture as its codes in one file, `.movq`; torch-free.

Version 1, little-endian: a header of 29 bytes (`_HEADER`), the payload, and a CRC32 of all before it. The
payload is the codes packed at `bits_a_code` bits, or what `entropy.py` made of them; the header's
`codes_crc` then tells codes that were decoded with other probabilities from the right ones.
A reader trusts no number of a header before it has held it against the file's length or a bound.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np

from movq_core.errors import InvalidMovqFile
from movq_core.tiles import Codes

MAGIC = b"MOVQ"
VERSION = 1
MAX_PIXELS = 2**26
MAX_GROUPS = 64
NO_CLASS = 0xFFFF
CODES_A_BYTE = 64  # of an entropy-coded payload, at most
# magic, version, groups, class, fingerprint, height, width, rows, columns, channels, last code, codes_crc
_HEADER = struct.Struct("<4sBBH6sHHHHBHI")
_CRC = struct.Struct("<I")
OVERHEAD_BYTES = _HEADER.size + _CRC.size


@dataclass(frozen=True)
class MovqFile:
    """What a `.movq` file says.

    `fingerprint` (12 hex digits) names the bundle; `shape` is (code_channels, rows, columns); `groups` 0
    means a packed payload, otherwise an entropy-coded one, of that many groups a block, made with `class_id`.
    """

    fingerprint: str
    height: int
    width: int
    shape: tuple[int, int, int]
    codebook_size: int
    groups: int
    class_id: int | None
    codes_crc: int
    payload: bytes

    @property
    def bits_per_pixel(self) -> float:
        """Of the whole file, its header too."""
        return 8 * (OVERHEAD_BYTES + len(self.payload)) / (self.height * self.width)

    def entropy_coded(self, payload: bytes, groups: int, class_id: int | None) -> MovqFile:
        """The same codes with another payload; zeros, which a decoder reads behind its end, fill it up."""
        padded = payload.ljust(least_bytes(self.shape), b"\0")
        return replace(self, payload=padded, groups=groups, class_id=class_id)

    def to_bytes(self) -> bytes:
        """The file; raises InvalidMovqFile for a picture that the format has no numbers for."""
        self.check()
        channels, rows, columns = self.shape
        class_id = NO_CLASS if self.class_id is None else self.class_id
        body = _HEADER.pack(
            MAGIC, VERSION, self.groups, class_id, bytes.fromhex(self.fingerprint), self.height, self.width,
            rows, columns, channels, self.codebook_size - 1, self.codes_crc,
        ) + self.payload  # fmt: skip
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> MovqFile:
        """Read a file; raises InvalidMovqFile that says what is wrong."""
        if data[: len(MAGIC)] != MAGIC:
            raise InvalidMovqFile("not a .movq file")
        if len(data) < OVERHEAD_BYTES:
            raise InvalidMovqFile("the file is cut short")
        if data[len(MAGIC)] != VERSION:
            raise InvalidMovqFile(f"version {data[len(MAGIC)]} of .movq; this program reads {VERSION}")
        body, crc = data[: -_CRC.size], data[-_CRC.size :]
        if _CRC.pack(zlib.crc32(body)) != crc:
            raise InvalidMovqFile("the file is damaged or cut short: its checksum differs")
        _, _, groups, class_id, name, height, width, rows, columns, channels, last_code, codes_crc = (
            _HEADER.unpack_from(body)
        )
        file = cls(
            fingerprint=name.hex(),
            height=height,
            width=width,
            shape=(channels, rows, columns),
            codebook_size=last_code + 1,
            groups=groups,
            class_id=None if class_id == NO_CLASS else class_id,
            codes_crc=codes_crc,
            payload=body[_HEADER.size :],
        )
        file.check()
        return file

    def check(self) -> None:
        """Raises InvalidMovqFile for what the format has no numbers for."""
        channels, rows, columns = self.shape
        if not (1 <= self.height <= 0xFFFF and 1 <= self.width <= 0xFFFF):
            raise InvalidMovqFile(f"{self.width}x{self.height} pixels; a side has 1 to {0xFFFF}")
        if self.height * self.width > MAX_PIXELS:
            raise InvalidMovqFile(f"{self.width}x{self.height} pixels; at most {MAX_PIXELS} together")
        if not (1 <= channels <= 0xFF and 1 <= rows <= self.height and 1 <= columns <= self.width):
            raise InvalidMovqFile(f"a grid of {self.shape} for {self.width}x{self.height} pixels")
        if not 2 <= self.codebook_size <= 0x10000:
            raise InvalidMovqFile(f"a codebook of {self.codebook_size}; 2 to {0x10000} fit")
        if not 0 <= self.groups <= MAX_GROUPS:
            raise InvalidMovqFile(f"{self.groups} groups; at most {MAX_GROUPS}")
        if self.groups == 0 and self.class_id is not None:
            raise InvalidMovqFile("packed codes have no class")
        if self.class_id is not None and not 0 <= self.class_id < NO_CLASS:
            raise InvalidMovqFile(f"class {self.class_id}; below {NO_CLASS} fit")
        if self.groups == 0 and len(self.payload) != packed_bytes(self.shape, self.codebook_size):
            raise InvalidMovqFile(f"{len(self.payload)} bytes of packed codes for a grid of {self.shape}")

        if self.groups and len(self.payload) < least_bytes(self.shape):
            raise InvalidMovqFile(f"{len(self.payload)} bytes of coded codes for a grid of {self.shape}")

    def check_codes(self, codes: Codes) -> Codes:
        """`codes`, if they are those that went in; raises InvalidMovqFile."""
        if crc_of(codes) != self.codes_crc:
            raise InvalidMovqFile(
                "the codes are not those that went in: this machine's probabilities differ from the encoder's"
                if self.groups
                else "the codes are not those that went in"
            )
        return codes


def bits_a_code(codebook_size: int) -> int:
    """log2 of a power of two; the next whole number of any other size."""
    return (codebook_size - 1).bit_length()


def packed_bytes(shape: tuple[int, int, int], codebook_size: int) -> int:
    channels, rows, columns = shape
    return (channels * rows * columns * bits_a_code(codebook_size) + 7) // 8


def least_bytes(shape: tuple[int, int, int]) -> int:
    """Of an entropy-coded payload: an eighth of a bit a code. Without it 60 bytes could ask for hours."""
    channels, rows, columns = shape
    return -(-channels * rows * columns // CODES_A_BYTE)


def crc_of(codes: Codes) -> int:
    """CRC32 of codes (C, H, W) as little-endian uint16."""
    return zlib.crc32(codes.astype("<u2").tobytes())


def pack_codes(codes: Codes, codebook_size: int) -> bytes:
    """Codes (C, H, W) in their order, the most significant bit first; the last byte is filled with zeros."""
    shifts = np.arange(bits_a_code(codebook_size) - 1, -1, -1)
    return np.packbits((codes.reshape(-1, 1) >> shifts & 1).astype(np.uint8)).tobytes()


def unpack_codes(payload: bytes, shape: tuple[int, int, int], codebook_size: int) -> Codes:
    """The codes that `pack_codes` packed; raises InvalidMovqFile when they cannot be."""
    if len(payload) != packed_bytes(shape, codebook_size):
        raise InvalidMovqFile(f"{len(payload)} bytes of packed codes for a grid of {shape}")
    width = bits_a_code(codebook_size)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    count = shape[0] * shape[1] * shape[2] * width
    if bits[count:].any():
        raise InvalidMovqFile("bits are set behind the last code")
    weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    codes: Codes = (bits[:count].reshape(-1, width) @ weights).reshape(shape)
    if codes.max() >= codebook_size:
        raise InvalidMovqFile(f"code {codes.max()} in a codebook of {codebook_size}")
    return codes
