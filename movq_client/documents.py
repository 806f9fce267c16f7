"""Documents: the server's answers. Fields that a newer server adds are passed over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from movq_client.errors import InvalidRequest

FINAL = ("succeeded", "failed", "cancelled")


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Fidelity(_Document):
    """How a reconstruction compares with what went in; see `Reconstruction`."""

    psnr_db: float | None
    ssim: float | None
    codes_bytes: int
    bits_per_pixel: float


class JobDocument(_Document):
    """A job as it stood when the server was asked.

    `status`: queued, running, succeeded, failed or cancelled. `position`: 1 is next, None once a worker has
    it. `progress`: 0 to 1. `request`: what to send again to get the same.
    """

    id: str
    kind: str
    status: str
    model: str | None = None
    priority: str | None = None
    progress: float | None = None
    position: int | None = None
    estimated_wait_s: float | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    request: dict[str, Any] = {}
    seeds: list[int] = []
    images: list[str] = []
    height: int | None = None
    width: int | None = None
    fidelity: Fidelity | None = None
    error: str | None = None
    timings: dict[str, float | None] = {}
    links: dict[str, str] = {}

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


class JobList(_Document):
    jobs: list[JobDocument]


class ModelDocument(_Document):
    """A model that the server has; `tasks` are the kinds of job that it does, `sampling` what suits it."""

    name: str
    tasks: list[str]
    image_size: int
    downsampling_factor: int
    code_channels: int
    codebook_size: int
    num_classes: int
    sampling: dict[str, Any] = {}
    limits: dict[str, int] = {}
    links: dict[str, str] = {}


class ModelList(_Document):
    models: list[ModelDocument]


class ClassDocument(_Document):
    """A class that a model makes images of; `example`: link to a picture of one."""

    id: int
    name: str
    example: str | None = None


class ClassList(_Document):
    model: str
    classes: list[ClassDocument]


class Codes(_Document):
    """An image as its codes, `codes[channel][row][column]`, of `model`; the image has these pixels.

    `numpy.array(codes.codes)` makes an array of them.
    """

    model: str
    height: int
    width: int
    codes: list[list[list[int]]]

    def save(self, path: str | Path) -> None:
        """Write a JSON document, which `Codes.load` and the server's `/decode` read."""
        Path(path).write_text(self.model_dump_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Codes:
        """Raises OSError, and InvalidRequest for what is no codes document."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            raise InvalidRequest(f"{path} holds no codes: {error.errors()[0]['msg']}.") from error
