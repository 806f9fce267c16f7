"""Checksums: a bundle's files are those that were exported; as `sha256sum -c SHA256SUMS` has it.

They tell a copy that was cut short, a disk that forgot, and files of two exports side by side. Who can write
to the folder can write them too: a folder that others may write to is not made safe by them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from movq_core.errors import BundleError

CHECKSUMS_FILE = "SHA256SUMS"
MAX_CHECKSUMS_BYTES = 64 * 1024
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})")  # a name, and no path


def write_checksums(folder: Path, names: Sequence[str]) -> None:
    """Write `SHA256SUMS` of the files `names` into `folder`."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS_FILE).write_text("".join(lines), encoding="ascii")


def check_files(folder: Path, names: Sequence[str]) -> None:
    """Hold the files `names` against `SHA256SUMS`; raises BundleError that names the one at fault.

    A folder without `SHA256SUMS` is taken as it is: it was made by hand, or before there were any.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return
    known = _read(path)
    for name in names:
        if name not in known:
            raise BundleError(f"{path} does not list {name}")
        if (found := sha256_of(folder / name)) != known[name]:
            raise BundleError(
                f"{folder / name} is not the file that was exported: its SHA-256 is {found[:12]}..., and "
                f"{CHECKSUMS_FILE} has {known[name][:12]}.... Copy the bundle again; if the change is "
                f"yours, run `sha256sum {' '.join(names)} > {CHECKSUMS_FILE}` there."
            )


def sha256_of(path: Path) -> str:
    """Hex digits; raises BundleError for a file that is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error


def _read(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        text = file.read(MAX_CHECKSUMS_BYTES + 1)
    if len(text) > MAX_CHECKSUMS_BYTES:
        raise BundleError(f"{path} is longer than {MAX_CHECKSUMS_BYTES:,} bytes")
    known = {}
    for line in text.decode("ascii", "replace").splitlines():
        if not (match := _LINE.fullmatch(line)):
            raise BundleError(f"{path} is no list of SHA-256 and file names: {line[:80]!r}")
        known[match[2]] = match[1]
    return known
