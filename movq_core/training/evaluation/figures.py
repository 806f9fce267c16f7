"""A figure under its name, and many of them as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """A number, or None with a `note` that says why there is none."""

    name: str
    value: float | None
    unit: str = ""
    note: str = ""

    @property
    def finite(self) -> float | None:
        """JSON has no infinity."""
        return self.value if self.value is not None and math.isfinite(self.value) else None


def table(title: str, figures: Iterable[Figure]) -> Table:
    """One line a figure."""
    made = Table(title=title)
    made.add_column("figure")
    made.add_column("value", justify="right", no_wrap=True)
    made.add_column("of")
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.5g} {figure.unit}".rstrip()
        made.add_row(figure.name, value, figure.note)
    return made


def write_json(path: Path, about: Mapping[str, Any], groups: Mapping[str, Iterable[Figure]]) -> None:
    """`about` the measurement, and under "figures" by group and name: value, unit, note."""
    figures = {
        group: {f.name: {"value": f.finite, "unit": f.unit, "note": f.note} for f in members}
        for group, members in groups.items()
    }
    text = json.dumps({**about, "figures": figures}, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
