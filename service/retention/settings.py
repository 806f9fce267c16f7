"""RetentionSettings: the service's settings, and how long blobs are kept."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.settings import Settings


class RetentionSettings(Settings, BaseSettings):
    """Read once, from `MOVQ_<FIELD>`, by `__main__`."""

    model_config = SettingsConfigDict(
        env_prefix="MOVQ_",
        frozen=True,
        extra="ignore",
        protected_namespaces=(),
        hide_input_in_errors=True,  # there are passwords in it
    )

    # Images, uploads, codes that no job's record names; by default an hour longer than records are kept.
    blob_age_s: int | None = Field(default=None, ge=1)
    preview_age_s: int = Field(default=3600, ge=1)  # nobody asks for them once their image is there
    max_blobs_bytes: int | None = Field(default=None, ge=0)  # beyond it the oldest go before their time
    # What is younger stays whatever else is said: it may be on its way into a job's record.
    retention_grace_s: int = Field(default=600, ge=1)
    retention_every_s: int = Field(default=300, ge=1)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: no metrics

    @property
    def keep_blobs_s(self) -> int:
        """How long a blob that no record names is kept after it was written last."""
        return self.blob_age_s or max(self.result_ttl_s, self.failure_ttl_s) + 3600

    @model_validator(mode="after")
    def _ages_fit(self) -> Self:
        if min(self.keep_blobs_s, self.preview_age_s) < self.retention_grace_s:
            raise ValueError(
                "MOVQ_BLOB_AGE_S and MOVQ_PREVIEW_AGE_S must not be below MOVQ_RETENTION_GRACE_S "
                f"({self.retention_grace_s})"
            )
        if self.preview_age_s < self.job_timeout_s:
            raise ValueError(
                f"MOVQ_PREVIEW_AGE_S must not be below MOVQ_JOB_TIMEOUT_S ({self.job_timeout_s}): "
                "a running job's previews are looked at"
            )
        return self
