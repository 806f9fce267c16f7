"""One attempt, over real TLS to a real server. Only the resolution of names is played."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from standardwebhooks import Webhook

from service.webhooks.destination import Address, DestinationRefused, parse_networks
from service.webhooks.sender import Delivery, GivenUp, NotDelivered, Sender
from service.webhooks.settings import WebhookSettings
from tests.service.webhooks.receiver import Receiver, receiving

LOOPBACK = parse_networks("127.0.0.0/8")


class Names:
    """A resolver: each host has a list of answers, one a question; the last one stays."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {host.replace("_", "."): list(told) for host, told in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        told = self.answers[host]
        return [ip_address(address) for address in (told.pop(0) if len(told) > 1 else told[0])]


@pytest.fixture
def settings(secret: str, ca_file: Path) -> WebhookSettings:
    return WebhookSettings(
        webhook_secret=secret, webhook_ca_file=ca_file, webhook_allow=LOOPBACK, webhook_timeout_s=2
    )


def delivery(url: str) -> Delivery:
    return Delivery(
        message_id="webhook-1", url=url, body='{"type": "job.succeeded", "data": {"name": "Bär"}}'
    )


def test_what_arrives_is_verified_by_the_official_library(
    settings: WebhookSettings, receiver: Receiver, secret: str
) -> None:
    sent = delivery(receiver.url())
    Sender(settings).send(sent)
    (received,) = receiver.received
    assert Webhook(secret).verify(received.body, received.headers) == json.loads(sent.body)
    assert received.path == "/hook?of=movq"
    assert received.headers["webhook-id"] == "webhook-1"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["host"] == f"localhost:{receiver.port}"


@pytest.mark.parametrize("status", [500, 404, 429, 302, 307])
def test_what_is_not_taken_may_be_sent_again(
    settings: WebhookSettings, receiver: Receiver, status: int
) -> None:
    receiver.answers = [status]
    with pytest.raises(NotDelivered, match=f"answered {status}"):
        Sender(settings).send(delivery(receiver.url()))
    assert len(receiver.received) == 1, "a redirect is not followed"


def test_410_ends_it(settings: WebhookSettings, receiver: Receiver) -> None:
    receiver.answers = [410]
    with pytest.raises(GivenUp, match="410"):
        Sender(settings).send(delivery(receiver.url()))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
def test_a_private_host_is_refused_before_it_hears_of_us(
    settings: WebhookSettings, receiver: Receiver, host: str
) -> None:
    guarded = settings.model_copy(update={"webhook_allow": ()})
    with pytest.raises(DestinationRefused, match="not a public address"):
        Sender(guarded).send(delivery(receiver.url(host)))
    assert receiver.connections == 0


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]])
def test_a_public_name_that_resolves_to_a_private_address_is_refused(
    settings: WebhookSettings, receiver: Receiver, addresses: list[str]
) -> None:
    guarded = settings.model_copy(update={"webhook_allow": ()})
    names = Names(hooks_example=[addresses])
    with pytest.raises(DestinationRefused, match=r"hooks\.example is at"):
        Sender(guarded, names).send(delivery(receiver.url("hooks.example")))
    assert names.asked == ["hooks.example"]
    assert receiver.connections == 0


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_judged(
    settings: WebhookSettings, authority: trustme.CA, receiver: Receiver
) -> None:
    """Rebinding: 127.0.0.2 alone is allowed; the second answer is 127.0.0.1, where somebody listens, too."""
    only = settings.model_copy(update={"webhook_allow": parse_networks("127.0.0.2/32")})
    names = Names(hooks_example=[["127.0.0.2"], ["127.0.0.1"]])
    with receiving(authority, "127.0.0.2") as other:
        sender = Sender(only, names)
        sender.send(delivery(other.url("hooks.example")))
        assert names.asked == ["hooks.example"], "it is resolved once"
        assert len(other.received) == 1
        with pytest.raises(DestinationRefused, match=r"127\.0\.0\.1"):
            sender.send(delivery(receiver.url("hooks.example")))
    assert receiver.connections == 0


def test_the_next_address_is_tried_when_one_does_not_answer(
    settings: WebhookSettings, receiver: Receiver
) -> None:
    names = Names(hooks_example=[["127.0.0.3", "127.0.0.1"]])
    Sender(settings, names).send(delivery(receiver.url("hooks.example")))
    assert len(receiver.received) == 1


def test_the_certificate_has_to_be_the_names(settings: WebhookSettings, receiver: Receiver) -> None:
    names = Names(other_example=[["127.0.0.1"]])
    with pytest.raises(NotDelivered, match=r"(?i)certificate"):
        Sender(settings, names).send(delivery(receiver.url("other.example")))
    assert receiver.received == []


def test_an_unknown_authority_is_not_believed(settings: WebhookSettings, receiver: Receiver) -> None:
    system = settings.model_copy(update={"webhook_ca_file": None})
    with pytest.raises(NotDelivered, match=r"(?i)certificate"):
        Sender(system).send(delivery(receiver.url()))


def test_only_https(settings: WebhookSettings, receiver: Receiver) -> None:
    with pytest.raises(DestinationRefused, match="https"):
        Sender(settings).send(delivery(receiver.url().replace("https", "http")))


def test_no_proxy_is_asked(
    settings: WebhookSettings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    Sender(settings).send(delivery(receiver.url()))
    assert len(receiver.received) == 1


def test_a_receiver_that_dribbles_is_left_when_the_time_is_over(
    settings: WebhookSettings, receiver: Receiver
) -> None:
    receiver.pause_s = 0.3
    begun_s = time.monotonic()
    with pytest.raises(NotDelivered, match="no answer within 2 s"):
        Sender(settings).send(delivery(receiver.url()))
    assert time.monotonic() - begun_s < 3


def test_nobody_there(settings: WebhookSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(NotDelivered, match="ConnectError"):
        Sender(settings).send(delivery(f"https://localhost:{port}/"))


def test_a_name_that_is_none(settings: WebhookSettings) -> None:
    with pytest.raises(NotDelivered, match="cannot be resolved"):
        Sender(settings).send(delivery(f"https://{'a' * 70}.example/"))
