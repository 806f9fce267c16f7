"""RedisAddress: where Redis is, read from one URL. It opens nothing: service and worker do, each its own way.

    redis://[USER:PASSWORD@]HOST[:6379][/DATABASE]
    unix://[USER:PASSWORD@]/PATH/OF/SOCKET[?db=DATABASE]
    redis+sentinel://[USER:PASSWORD@]HOST[:26379][,HOST[:26379]...]/SERVICE[/DATABASE]

`rediss://` and `rediss+sentinel://` are the same over TLS, and look at the server's certificate always:
`?ssl_ca_certs=FILE` says who may have signed it; `ssl_certfile` and `ssl_keyfile` are
the client's own. The Sentinels' credentials are `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator

REDIS_PORT, SENTINEL_PORT = 6379, 26379
FORMS = (
    "redis://user:password@host:6379/0, rediss:// for TLS, unix:///path/of/socket, "
    "or redis+sentinel://user:password@host:26379,host:26379/service/0"
)
_PLAIN = frozenset({"redis", "rediss"})
_SENTINEL = frozenset({"redis+sentinel", "rediss+sentinel"})
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:\[\]@/]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class RedisAddress:
    """`hosts` are Redis' own, or its Sentinels' where there is a `service`; none for a socket."""

    hosts: tuple[tuple[str, int], ...] = ()
    socket_path: str | None = None
    service: str | None = None  # Sentinel's name of the primary
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, str] | None = None  # files, by redis-py's names; None: no TLS

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Raises ValueError, with a sentence that never repeats the URL: there may be a password in it."""
        try:
            parts = urlsplit(url)
        except ValueError:  # whose text would repeat it
            _refuse()
        if parts.scheme not in {*_PLAIN, *_SENTINEL, "unix"} or parts.fragment:
            _refuse()
        options = _options(parts)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        socket_path, service, database = _path(parts)
        return cls(
            hosts=() if socket_path else _hosts(hosts, parts.scheme),
            socket_path=socket_path,
            service=service,
            database=_number(options.pop("db", "") or database),
            username=unquote(username) or None,
            password=unquote(password) or None,
            sentinel_username=options.pop("sentinel_username", None),
            sentinel_password=options.pop("sentinel_password", None),
            tls=options if parts.scheme.startswith("rediss") else None,
        )

    def options(self) -> dict[str, Any]:
        """Arguments of a connection to Redis, as redis-py names them; where it is, is not among them."""
        return {
            "db": self.database,
            "username": self.username,
            "password": self.password,
            **(self.tls or {}),
        }

    def sentinel_options(self) -> dict[str, Any]:
        """Arguments of a connection to a Sentinel."""
        return {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            **({"ssl": True, **self.tls} if self.tls is not None else {}),
        }


def _checked(url: str) -> str:
    RedisAddress.parse(url)
    return url


RedisURL = Annotated[str, AfterValidator(_checked)]  # as a setting has it


def _refuse() -> NoReturn:
    raise ValueError(f"say {FORMS}; write special characters of a password as %xx") from None


def _path(parts: SplitResult) -> tuple[str | None, str | None, str]:
    """A socket's path, the service's name and the database, as far as the URL's path says them."""
    path = unquote(parts.path)
    if parts.scheme == "unix":
        return path or _refuse(), None, ""
    service, _, database = path.removeprefix("/").partition("/")
    if parts.scheme in _SENTINEL:
        if not service:
            raise ValueError(
                "name the service that the Sentinels watch, as in redis+sentinel://host:26379/mymaster"
            )
        return None, service, database
    return None, None, path.removeprefix("/")


def _hosts(text: str, scheme: str) -> tuple[tuple[str, int], ...]:
    several, default = scheme in _SENTINEL, SENTINEL_PORT if scheme in _SENTINEL else REDIS_PORT
    found = [_HOST.fullmatch(host) for host in text.split(",")]
    if len(found) > 1 and not several:
        raise ValueError("one host is Redis; several are Sentinels, as in redis+sentinel://")
    return tuple(
        (match["v6"] or match["name"], int(match["port"] or default)) if match else _refuse()
        for match in found
    )


def _number(database: str) -> int:
    if database and not database.isdecimal():
        raise ValueError("a database is a number, as in redis://host/0")
    return int(database or 0)


def _options(parts: SplitResult) -> dict[str, str]:
    """What stands behind the question mark, where each is known to this scheme."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    allowed = {"db"}
    if parts.scheme in _SENTINEL:
        allowed |= {"sentinel_username", "sentinel_password"}
    if parts.scheme.startswith("rediss"):
        allowed |= set(_FILES)
    if not options.keys() <= allowed:
        raise ValueError(f"of a {parts.scheme}:// URL the options are {', '.join(sorted(allowed))}")
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ValueError(f"{name} names no file: {options[name]}")
    return options
