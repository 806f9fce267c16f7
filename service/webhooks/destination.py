"""Destination: which addresses a webhook may go to. Not to the network that movq itself stands in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from movq_core.errors import InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that is routed in IPv6; RFC 4291
_NAT64 = IPv6Network("64:ff9b::/96")  # an IPv4 address in its last four bytes; RFC 6052


class DestinationRefused(InvalidRequest):
    """Nothing is sent to this address, now or later."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, fd00::/8`; raises ValueError for what is not a network."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def reached(address: Address) -> Address:
    """The host that is reached by way of `address`: the IPv4 address that an IPv6 one wraps, or itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether `address` is a host on the open internet, and not one that only looks like it."""
    host = reached(address)
    if isinstance(host, IPv6Address) and host not in _GLOBAL_UNICAST:
        return False
    return host.is_global and not (host.is_multicast or host.is_reserved)


def check_destination(host: str, addresses: Iterable[Address], allowed: Sequence[Network]) -> None:
    """Raises DestinationRefused unless each of the host's addresses is public, or `allowed` nevertheless."""
    for address in addresses:
        if not is_public(address) and not any(reached(address) in network for network in allowed):
            raise DestinationRefused(f"{host} is at {address}, which is not a public address.")
