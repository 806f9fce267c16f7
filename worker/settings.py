"""WorkerSettings: a worker's environment, MOVQ_*; and files named like it, in MOVQ_SECRETS_DIR."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from movq_core.redis_address import RedisURL

Precision = Literal["auto", "float32", "bfloat16"]


class WorkerSettings(BaseSettings):
    """Read once, in `__main__`; frozen and validated at birth.

    A lease says "this worker is alive and has this job"; three renewals may fail before it is lost.
    """

    model_config = SettingsConfigDict(
        env_prefix="MOVQ_", frozen=True, extra="ignore", protected_namespaces=()
    )

    redis_url: RedisURL = Field(default="redis://127.0.0.1:6379/0", repr=False)  # shared with the service
    blobs_url: str = "data/blobs"  # a folder, or any fsspec URL; shared with the service
    model_dir: Path = Path("models/emoji-64")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"  # bfloat16 on CUDA, float32 on the CPU
    deterministic: bool = False  # one shape for every step on CUDA, the plain tokenizer everywhere; slower
    cache_dir: Path = Path("data/cache")  # which forms are fastest here, and what torch's compiler built
    rows: int = Field(default=16, ge=1, le=512)  # images on the device at once
    prefetch: int = Field(default=2, ge=0, le=512)  # images taken beyond `rows`, to refill without a gap
    previews: bool = True  # show watched images on their way, in the time that steps and tiles leave them
    pool_threads: int = Field(default=2, ge=1, le=64)
    lease_s: int = Field(default=15, ge=4, le=300)
    renew_s: float = Field(default=3.0, gt=0.0)
    grace_s: float = Field(default=25.0, ge=0.0)  # SIGTERM: seconds to finish what is in flight
    stalled_s: float = Field(default=120.0, gt=0.0)  # an engine without a step for so long is dead
    metrics_host: str = "127.0.0.1"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: no metrics
