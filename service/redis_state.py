"""RedisState: how Redis itself is, by its INFO. Nothing here talks to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAVED = {
    "aof": "aof_last_write_status",
    "aof_rewrite": "aof_last_bgrewrite_status",
    "rdb": "rdb_last_bgsave_status",
}


@dataclass(frozen=True)
class RedisState:
    """Bytes that it holds and may hold (0: no bound), and whether the last write of each file went well."""

    used_bytes: int
    max_bytes: int
    saved: Mapping[str, bool]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> RedisState:
        """`info`: what INFO tells; a managed Redis may leave some of it out."""
        return cls(
            used_bytes=int(info.get("used_memory", 0)),
            max_bytes=int(info.get("maxmemory", 0)),
            saved={kind: info[name] == "ok" for kind, name in _SAVED.items() if name in info},
        )
