"""Settings: everything about the service that an operator may choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from movq_core.redis_address import RedisURL
from service.keys import Key, parse_keys
from service.limits import parse_rate

MAX_WAIT_S = 60.0

_CommaSeparated = NoDecode  # in a variable: not JSON, but `one,two`


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseModel):
    """Validated at birth, frozen; `__main__` fills it from `MOVQ_*` variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: RedisURL = Field(default="redis://127.0.0.1:6379/0", repr=False)  # shared with the workers
    blobs_url: str = "data/blobs"  # a folder, or any fsspec URL; shared with the workers
    # Bundles' folders: their config.json, labels.json and examples/ are read; the first is the default.
    models: Annotated[tuple[Path, ...], _CommaSeparated] = (Path("models/emoji-64"),)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    api_keys: Annotated[tuple[Key, ...], _CommaSeparated] = ()  # `name:sha256`; without any, all is open
    rate_limit: str | None = None  # requests that make a job, by key or by address: "120/minute"
    max_open_jobs: int | None = Field(default=None, ge=1)  # queued or running, of one key
    cors_origins: Annotated[tuple[str, ...], _CommaSeparated] = ()
    webhook_secret: SecretStr | None = None  # signs webhooks; without one none are taken

    client_patience_s: float = Field(default=15.0, gt=0)  # for headers; for a body's silences, in all
    max_queue_images: int = Field(default=256, ge=1)  # queued and in flight together, of one bundle
    max_upload_bytes: int = Field(default=16 * 2**20, ge=1)
    max_bodies_bytes: int = Field(default=256 * 2**20, ge=1)  # of all bodies that are not answered yet
    max_image_pixels: int = Field(default=16_777_216, ge=1)
    max_whole_pixels: int = Field(default=1_048_576, ge=1)  # with tiling=whole, whose memory grows with it
    decode_timeout_s: float = Field(default=20.0, gt=0)  # then its process is killed
    decode_processes: int = Field(default=2, ge=1)

    wait_s: float = Field(default=MAX_WAIT_S, ge=0, le=MAX_WAIT_S)  # what the short face waits by itself
    job_timeout_s: int = Field(default=300, ge=1)
    result_ttl_s: int = Field(default=24 * 3600, ge=1)
    failure_ttl_s: int = Field(default=24 * 3600, ge=1)
    max_retries: int = Field(default=2, ge=0)  # times a job may lose its worker and start again
    worker_silence_s: float = Field(default=15.0, gt=0)  # a worker unheard for longer is not alive

    @field_validator("models", "cors_origins", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        return _split(value)

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        return parse_keys(value) if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _at_least_one(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            raise ValueError("name the folder of one bundle at least, as in models/emoji-64")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str | None) -> str | None:
        if value is not None:
            parse_rate(value)
        return value or None
