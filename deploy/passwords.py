"""`python -m deploy.passwords`: draws the passwords of `docker compose up`, once; later starts keep them.

They live in volumes, so that none is in an image, in a variable or in what `docker inspect` shows:
Redis' for the parts that talk to it, Grafana's in Grafana's own folder.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

REDIS_HOST = "redis"
VOLUMES = Path("/volumes")


def draw(volumes: Path) -> list[Path]:
    """Write the files that are not there yet, readable by their owner alone; returns those."""
    return draw_redis(volumes / "passwords") + draw_grafana(volumes / "grafana")


def draw_redis(folder: Path) -> list[Path]:
    """One password in the three forms in which it is asked for.

    `movq_redis_url` as MOVQ_SECRETS_DIR has it, `redis.conf` for the server, `redis` for its health check.
    """
    url = folder / "movq_redis_url"
    if url.exists():
        return []
    password = secrets.token_urlsafe(32)
    return [
        write(folder / "redis", password),
        write(folder / "redis.conf", f"requirepass {password}\n"),
        write(url, f"redis://:{password}@{REDIS_HOST}:6379/0"),  # last: when it is there, all are
    ]


def draw_grafana(folder: Path) -> list[Path]:
    """The administrator's; looking needs none."""
    path = folder / "admin-password"
    return [] if path.exists() else [write(path, secrets.token_urlsafe(16))]


def write(path: Path, text: str) -> Path:
    """A whole file or none, for its owner's eyes."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    return draft.replace(path)


def main() -> int:
    """Draw what is missing, and say which files that made."""
    for path in draw(VOLUMES):
        sys.stdout.write(f"drawn: {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
