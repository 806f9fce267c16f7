"""Accept headers."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from service.negotiation import choose

OFFERS = ["application/json", "image/png", "image/webp"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("image/png;q=0.5, image/webp", "image/webp"),
        ("image/*, image/png;q=0", "image/webp"),
        ("text/html, */*;q=0.1", "application/json"),
        ("text/html, image/webp;q=0.9, */*;q=0.8", "image/webp"),
        ("image/png;q=oops, application/json;q=0.1", "application/json"),
        ("image/png; q=1.0 , application/json; q=1", "application/json"),
        ("application/json;q=0.2,image/png;q=0.9", "image/png"),
        ("", "application/json"),
    ],
)
def test_choice(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["text/html", "nonsense", "image/gif, */*;q=0", "image/png;q=0"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(HTTPException) as caught:
        choose(accept, OFFERS)
    assert caught.value.status_code == 406
