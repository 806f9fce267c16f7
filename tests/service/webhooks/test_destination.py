"""Which addresses are refused: everything that is not a host on the open internet."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from service.webhooks.destination import (
    DestinationRefused,
    check_destination,
    is_public,
    parse_networks,
)

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
]
PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",  # shared address space of carriers
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",  # where clouds keep their credentials
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001:0:7f00:1::1",  # Teredo
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "2002:a00:1::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_any_other_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(DestinationRefused, match=r"hooks\.example is at .* not a public address"):
        check_destination("hooks.example", [ip_address(address)], ())


def test_one_private_address_among_public_ones_is_enough() -> None:
    addresses = [ip_address("8.8.8.8"), ip_address("10.0.0.1")]
    with pytest.raises(DestinationRefused, match=r"10\.0\.0\.1"):
        check_destination("hooks.example", addresses, ())


def test_what_is_allowed_is_taken_and_nothing_else() -> None:
    allowed = parse_networks("10.0.0.0/8, fd00::/8")
    check_destination(
        "here", [ip_address("10.0.0.1"), ip_address("::ffff:10.0.0.1"), ip_address("fd00::1")], allowed
    )
    with pytest.raises(DestinationRefused):
        check_destination("here", [ip_address("192.168.0.1")], allowed)
