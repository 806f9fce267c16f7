"""Documents: codes as JSON, as somebody sent them."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from movq_core.protocol import CodesDocument
from service.decoding.frames import Answer

MAX_FAULTS = 16


def read_codes(data: bytes) -> tuple[Answer, list[bytes]]:
    """What the document tells of itself, and it once more, in our own words.

    A grid whose rows or channels differ in length has the shape (channels, 0, 0).
    """
    try:
        document = CodesDocument.model_validate_json(data, strict=True)
    except ValidationError as error:
        return Answer(error="InvalidBody", faults=faults_of(error)), []
    rows = [row for channel in document.codes for row in channel]
    is_even = len({len(row) for row in rows}) <= 1 and len({len(channel) for channel in document.codes}) <= 1
    grid = [len(document.codes[0]), len(rows[0])] if rows and is_even else [0, 0]
    least, most = (pick((pick(row) for row in rows if row), default=0) for pick in (min, max))
    answer = Answer(
        model=document.model[:100],
        size=(document.height, document.width),
        shape=[len(document.codes), *grid],
        least=least,
        most=most,
    )
    return answer, [document.model_dump_json().encode()]


def faults_of(error: ValidationError) -> list[dict[str, Any]]:
    """Of pydantic's errors what an answer tells; of what was sent only what is short."""
    faults: list[dict[str, Any]] = json.loads(error.json(include_url=False))[:MAX_FAULTS]
    for fault in faults:
        if not isinstance(fault.get("input"), bool | int | float | str) or len(str(fault["input"])) > 40:
            fault.pop("input", None)
        fault["loc"] = [str(part)[:100] if isinstance(part, str) else part for part in fault["loc"][:8]]
    return faults
