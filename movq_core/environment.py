"""What a process says when its `MOVQ_*` variables cannot be."""

from __future__ import annotations

from pydantic import ValidationError


def complaint(error: ValidationError) -> str:
    """What is wrong with which variable; never its value, which may be a secret."""
    wrong = [
        (".".join(map(str, item["loc"])).upper(), item["msg"].removeprefix("Value error, "))
        for item in error.errors()
    ]
    return " ".join(f"MOVQ_{name} is not valid: {message}." for name, message in wrong)
