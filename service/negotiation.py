"""Accept: which of our media types does the caller like best? (RFC 9110, section 12.5.1)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request


@dataclass(frozen=True)
class MediaRange:
    """One entry of an Accept header, e.g. `image/*;q=0.8`."""

    type: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """0: does not match; 1: `*/*`; 2: `type/*`; 3: the type itself."""
        kind, _, subtype = media_type.partition("/")
        if (self.type, self.subtype) == (kind, subtype):
            return 3
        if (self.type, self.subtype) == (kind, "*"):
            return 2
        return 1 if (self.type, self.subtype) == ("*", "*") else 0


def parse_accept(header: str) -> list[MediaRange]:
    """The ranges of an Accept header; entries that are none are passed over."""
    ranges = []
    for entry in header.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        kind, slash, subtype = name.partition("/")
        if slash and kind and subtype:
            ranges.append(MediaRange(kind, subtype, _quality(parameters)))
    return ranges


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def negotiate(http: Request, offers: Sequence[str]) -> str:
    """The offer that the request likes best; raises HTTPException 406."""
    return choose(", ".join(http.headers.getlist("accept")), offers)


def choose(header: str | None, offers: Sequence[str]) -> str:
    """The offer with the highest quality, the earliest of equals; the first without a header.

    Raises HTTPException 406 when none is acceptable.
    """
    ranges = parse_accept(header or "*/*")
    best = max(offers, key=lambda offer: _quality_of(offer, ranges))  # max keeps the first of equals
    if _quality_of(best, ranges) > 0:
        return best
    raise HTTPException(406, f"This resource comes as {', '.join(offers)}; Accept asked for {header}.")


def _quality_of(offer: str, ranges: Sequence[MediaRange]) -> float:
    """Quality that the most specific matching range gives to `offer`."""
    matching = [(entry.specificity(offer), entry.quality) for entry in ranges]
    specificity, quality = max(matching, default=(0, 0.0))
    return quality if specificity else 0.0
