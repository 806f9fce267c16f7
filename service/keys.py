"""Keys: who may ask. Only their hashes are known here (decision 18)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # it stands in the paths of blobs and in Redis' keys
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """`name` owns what the key makes; `sha256` is the key's, in hex."""

    name: str
    sha256: str


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys in `name:sha256,...`; raises ValueError, whose sentence does not repeat a hash."""
    keys = tuple(_parse(entry.strip()) for entry in text.split(",") if entry.strip())
    names = [key.name for key in keys]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two keys are named {', '.join(sorted(twice))}; a name has one key")
    return keys


def _parse(entry: str) -> Key:
    name, _, digest = entry.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:40]!r} cannot name a key: 1 to 32 of a to z, 0 to 9 and '-' can")
    if not _SHA256.fullmatch(digest):
        raise ValueError(f"the key {name!r} needs the SHA-256 of its secret, 64 hex digits: {name}:<sha256>")
    return Key(name, digest)


def owner_of_secret(secret: str, keys: Sequence[Key]) -> str | None:
    """Name of the key with this secret. Each is compared, in constant time, whichever it is."""
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(digest, key.sha256):
            found = key.name
    return found
