"""Settings: everything about the service that an operator may choose."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MAX_WAIT_S = 60.0


class Settings(BaseModel):
    """Validated at birth, frozen; `__main__` fills it from `MOVQ_*` variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: str = "redis://127.0.0.1:6379/0"
    blobs_url: str = "data/blobs"  # a folder, or any fsspec URL; shared with the workers
    model_dir: Path = Path("models/emoji-64")  # only its config.json and labels.json are read
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    max_queue_images: int = Field(default=256, ge=1)  # queued and in flight together
    max_upload_bytes: int = Field(default=16 * 2**20, ge=1)
    max_image_pixels: int = Field(default=16_777_216, ge=1)
    max_whole_pixels: int = Field(default=1_048_576, ge=1)  # with tiling=whole, whose memory grows with it
    decode_timeout_s: float = Field(default=20.0, gt=0)
    decode_threads: int = Field(default=2, ge=1)

    wait_s: float = Field(default=MAX_WAIT_S, ge=0, le=MAX_WAIT_S)  # what the short face waits by itself
    job_timeout_s: int = Field(default=300, ge=1)
    result_ttl_s: int = Field(default=24 * 3600, ge=1)
    failure_ttl_s: int = Field(default=24 * 3600, ge=1)
    max_retries: int = Field(default=2, ge=0)  # times a job may lose its worker and start again
    worker_silence_s: float = Field(default=15.0, gt=0)  # a worker unheard for longer is not alive
