"""Options that several commands have, each with its words of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from movq_core.params import MAX_SEED, MAX_STEPS, MAX_TOP_K, GuidanceSchedule, MaskSchedule, UnmaskOrder
from movq_core.protocol import Priority, Tiling

DEMO = Path("models/emoji-64")

_SERVER = "Where"
_SAMPLING = "How it is sampled (what is left out is what suits the model)"

Server = Annotated[
    str | None,
    typer.Option(
        envvar="MOVQ_URL", metavar="URL", help="ask this server, instead of here", rich_help_panel=_SERVER
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="MOVQ_API_KEY", help="for a server that has keys", rich_help_panel=_SERVER, show_default=False
    ),
]
Model = Annotated[
    str | None, typer.Option(help="one of the server's models; else its first", rich_help_panel=_SERVER)
]
Urgency = Annotated[
    Priority,
    typer.Option("--priority", help="which of the server's queues it waits in", rich_help_panel=_SERVER),
]
Bundle = Annotated[
    Path, typer.Option(help="without --server: the folder of the model", rich_help_panel=_SERVER)
]

ClassName = Annotated[
    str | None, typer.Option("--class", "-c", help="what it shows; `movq models NAME` lists them")
]
ClassId = Annotated[int | None, typer.Option(min=0, help="instead of --class: its number")]
NumImages = Annotated[int, typer.Option("--num-images", "-n", min=1, max=16, help="how many")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_SEED, help="the same seed gives the same image; drawn if not said"),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_STEPS, help="passes of the prior: more take longer", rich_help_panel=_SAMPLING
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="above 1 more daring, below more tame; to 4", rich_help_panel=_SAMPLING)
]
ChoiceTemperature = Annotated[
    float | None,
    typer.Option(help="how much chance decides which codes settle first; 0 to 50", rich_help_panel=_SAMPLING),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(help="how closely the class is followed; 1 is none, to 20", rich_help_panel=_SAMPLING),
]
Guidance = Annotated[
    GuidanceSchedule | None,
    typer.Option("--guidance-schedule", help="how guidance grows over the steps", rich_help_panel=_SAMPLING),
]
Masking = Annotated[
    MaskSchedule | None,
    typer.Option("--mask-schedule", help="how fast codes settle over the steps", rich_help_panel=_SAMPLING),
]
Order = Annotated[
    UnmaskOrder | None,
    typer.Option(
        "--order", help="which codes settle first: the surest, or spread evenly", rich_help_panel=_SAMPLING
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_TOP_K, help="draw among the likeliest codes only", rich_help_panel=_SAMPLING),
]
Tiled = Annotated[
    Tiling, typer.Option("--tiling", help="large images part by part in flat memory, or in one pass")
]


def said(**values: Any) -> dict[str, Any]:
    """Those that were said; what is left out is chosen by the model."""
    return {name: value for name, value in values.items() if value is not None}
