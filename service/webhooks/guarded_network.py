"""GuardedNetwork: connections to public addresses only, judged by the very address that is connected to."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import anyio
import httpcore
from anyio import to_thread

from service.webhooks.destination import Address, Network, check_destination

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of `host`, in the order to try them. Raises httpcore.ConnectError when there are none."""
    try:
        found = await to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), abandon_on_cancel=True
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: not a name at all
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(ip_address(str(sockaddr[0])) for *_, sockaddr in found))


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, judges all of its addresses, and connects to one that was judged.

    A check before the request would be one of another resolution than the one that is connected to: who owns
    the name may answer differently the second time. TLS verifies the host's name, not its address, as ever.
    """

    def __init__(self, allowed: Sequence[Network] = (), resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises DestinationRefused, httpcore.ConnectError or ConnectTimeout; `timeout` is for it all."""
        try:
            with anyio.fail_after(timeout):
                addresses = await self._resolve(host, port)
                check_destination(host, addresses, self._allowed)
                return await self._connect_first(addresses, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} did not let us connect in {timeout:g} s") from error

    async def _connect_first(
        self,
        addresses: Sequence[Address],
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        failure = httpcore.ConnectError("The host has no address.")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, None, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failure = error
        raise failure
