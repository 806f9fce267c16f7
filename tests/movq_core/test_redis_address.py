"""Where Redis is: every form of URL, and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from movq_core.redis_address import RedisAddress
from service.settings import Settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress(hosts=(("localhost", 6379),))),
        ("redis://[::1]:7000/3", RedisAddress(hosts=(("::1", 7000),), database=3)),
        ("redis://:p%40ss%2F@h/", RedisAddress(hosts=(("h", 6379),), password="p@ss/")),
        (
            "redis://me:pw@h?db=2",
            RedisAddress(hosts=(("h", 6379),), database=2, username="me", password="pw"),
        ),
        ("rediss://h:6380/0", RedisAddress(hosts=(("h", 6380),), tls={})),
        ("unix:///run/redis.sock?db=4", RedisAddress(socket_path="/run/redis.sock", database=4)),
        (
            "redis+sentinel://me:pw@a,b:1,[::1]:2/main/5?sentinel_password=other",
            RedisAddress(
                hosts=(("a", 26379), ("b", 1), ("::1", 2)),
                service="main",
                database=5,
                username="me",
                password="pw",
                sentinel_password="other",
            ),
        ),
        ("rediss+sentinel://a/main", RedisAddress(hosts=(("a", 26379),), service="main", tls={})),
    ],
)
def test_every_form_is_read(url: str, address: RedisAddress) -> None:
    assert RedisAddress.parse(url) == address


def test_tls_names_files_that_are_there(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    url = f"rediss://h?ssl_ca_certs={authority}"
    assert RedisAddress.parse(url).options()["ssl_ca_certs"] == str(authority)
    authority.unlink()
    with pytest.raises(ValueError, match="ssl_ca_certs names no file"):
        RedisAddress.parse(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://me:hunter2@h", "say redis://"),
        ("redis://me:hunter2#@h", "say redis://"),
        ("redis://me:hunter2/more@h", "say redis://"),
        ("redis://me:hunter2@[h", "say redis://"),
        ("redis://me:hunter2@h:port", "say redis://"),
        ("redis://me:hunter2@", "say redis://"),
        ("redis://me:hunter2@a,b/0", "several are Sentinels"),
        ("redis://me:hunter2@h/zero", "a database is a number"),
        ("redis://me:hunter2@h?ssl_cert_reqs=none", "the options are db"),
        ("rediss://me:hunter2@h?ssl_check_hostname=no", "the options are db, ssl_ca_certs"),
        ("redis+sentinel://me:hunter2@h", "name the service"),
        ("unix://", "say redis://"),
    ],
)
def test_what_is_none_is_told_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=url)
    (told,) = caught.value.errors()
    assert says in told["msg"]
    assert "hunter2" not in told["msg"]


def test_settings_do_not_show_it() -> None:
    assert "hunter2" not in repr(Settings(redis_url="redis://me:hunter2@h"))
    assert "hunter2" not in repr(RedisAddress.parse("redis://me:hunter2@h"))
