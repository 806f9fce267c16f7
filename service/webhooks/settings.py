"""WebhookSettings: the service's settings, and what its webhooks are sent with."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.settings import Settings
from service.webhooks.destination import Network, parse_networks

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of all of them
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64  # as Standard Webhooks has it


class WebhookSettings(Settings, BaseSettings):
    """Read once, from `MOVQ_<FIELD>` or MOVQ_SECRETS_DIR, by `__main__`."""

    model_config = SettingsConfigDict(
        env_prefix="MOVQ_", frozen=True, extra="ignore", protected_namespaces=()
    )

    webhook_secret: SecretStr  # whsec_ and base64; the receivers verify with it
    webhook_allow: Annotated[tuple[Network, ...], NoDecode] = ()  # private networks to send to nevertheless
    webhook_ca_file: Path | None = None  # certificates to trust instead of the system's
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=60)  # of one attempt, all in all
    webhook_attempts_at_once: int = Field(default=8, ge=1, le=64)
    # Pauses between attempts, 17 hours together; after the last attempt the delivery has failed.
    webhook_retry_after_s: Annotated[tuple[int, ...], NoDecode] = (5, 30, 120, 600, 3600, 4 * 3600, 12 * 3600)

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        try:
            key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not text.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
            raise ValueError(
                f"must be {SECRET_PREFIX} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes in base64"
            )
        return value

    @field_validator("webhook_allow", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return parse_networks(value) if isinstance(value, str) else value

    @field_validator("webhook_retry_after_s", mode="before")
    @classmethod
    def _pauses(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("webhook_retry_after_s")
    @classmethod
    def _are_pauses(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("give seconds with commas between, each 1 or more, as in 5,30,120")
        return value
