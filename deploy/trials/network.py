"""Network: hosts that are network namespaces of one machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

SWITCH, OWN_CABLE, NETWORK = "movq-trial", "movq-trial", "10.77.0"


def address(host: int) -> str:
    return f"{NETWORK}.{host}"


class Network:
    """Namespaces by the last number of their address, on a bridge, which this process is on, too.

    The bridge stands in a namespace as well: this machine's packet filter is none of theirs.
    """

    def __init__(self) -> None:
        self._namespaces = [SWITCH]
        ip("netns", "add", SWITCH)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        ip("link", "add", OWN_CABLE, "type", "veth", "peer", "name", "movq1", "netns", SWITCH)
        ip("-n", SWITCH, "link", "set", "movq1", "master", "bridge", "up")
        ip("addr", "add", f"{address(1)}/24", "dev", OWN_CABLE)
        ip("link", "set", OWN_CABLE, "up")

    def add(self, host: int) -> None:
        """A host that nothing runs on yet."""
        name, cable = f"{SWITCH}-{host}", f"movq{host}"
        ip("netns", "add", name)
        self._namespaces.append(name)
        ip("-n", SWITCH, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", SWITCH, "link", "set", cable, "master", "bridge", "up")
        ip("-n", name, "addr", "add", f"{address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")

    def run(
        self, host: int, command: Sequence[str], log: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process there."""
        inside = ["ip", "netns", "exec", f"{SWITCH}-{host}", *command]
        with log.open("ab") as output:
            everything = os.environ | environment
            return subprocess.Popen(inside, env=everything, stdout=output, stderr=output)  # noqa: S603

    def cut(self, host: int) -> None:
        ip("-n", SWITCH, "link", "set", f"movq{host}", "down")

    def mend(self, host: int) -> None:
        ip("-n", SWITCH, "link", "set", f"movq{host}", "up")

    def close(self) -> None:
        for name in self._namespaces:
            ip("netns", "del", name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)  # noqa: S603, S607
