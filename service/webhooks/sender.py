"""Sender: one attempt to deliver a webhook, signed as Standard Webhooks (standardwebhooks.com) has it."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version

import anyio
import httpcore
from pydantic import BaseModel, ConfigDict
from standardwebhooks import Webhook

from movq_core.tracing import NO_TRACING, Span, SpanKind, Tracing
from service.webhooks.destination import DestinationRefused
from service.webhooks.guarded_network import GuardedNetwork, Resolve, resolve
from service.webhooks.settings import WebhookSettings

CONNECT_TIMEOUT_S = 5.0
GONE = 410


class Delivery(BaseModel):
    """What is sent, where to. `message_id` and `body` are the same in each attempt.

    `job_id`, `request_id` and `traceparent` are for our logs and spans; the URL is not: it may hold a token.
    """

    model_config = ConfigDict(frozen=True)

    message_id: str
    url: str
    body: str
    job_id: str = ""
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def ids(self) -> dict[str, str]:
        """What each log line about it tells."""
        ids = {"delivery": self.message_id, "job_id": self.job_id, "request_id": self.request_id}
        return {name: value for name, value in ids.items() if value}


class NotDelivered(Exception):
    """This attempt failed; another may succeed."""


class GivenUp(Exception):
    """The receiver wants no more of these."""


class Sender:
    """Sends to public https addresses only. Follows no redirect, uses no proxy, reads no answer's body."""

    def __init__(
        self, settings: WebhookSettings, resolve: Resolve = resolve, tracing: Tracing = NO_TRACING
    ) -> None:
        self._webhook = Webhook(settings.webhook_secret.get_secret_value())
        self._timeout_s = settings.webhook_timeout_s
        self._tls = ssl.create_default_context(cafile=settings.webhook_ca_file)
        self._tracing = tracing
        self._network = GuardedNetwork(settings.webhook_allow, resolve)

    def send(self, delivery: Delivery) -> None:
        """Deliver it. Raises NotDelivered, or where no attempt can help DestinationRefused or GivenUp."""
        with self._span(delivery) as span:
            status = self._status(delivery)
            span.set({"http.response.status_code": status})
            if status == GONE:
                raise GivenUp("the receiver answered 410: it wants no more of these")
            if not 200 <= status < 300:
                raise NotDelivered(f"the receiver answered {status}")

    def _span(self, delivery: Delivery) -> AbstractContextManager[Span]:
        """It goes on with the job's trace; of the URL it tells the host alone."""
        attributes = {
            "http.request.method": "POST",
            "server.address": httpcore.URL(delivery.url).host.decode(errors="replace"),
            "messaging.message.id": delivery.job_id,
            "movq.request_id": delivery.request_id or "",
        }
        parent = delivery.traceparent
        return self._tracing.span("POST", SpanKind.CLIENT, parent=parent, attributes=attributes)

    def _status(self, delivery: Delivery) -> int:
        """What the receiver answers; raises NotDelivered, DestinationRefused."""
        try:
            return anyio.run(self._post, delivery)
        except TimeoutError as error:
            raise NotDelivered(f"no answer within {self._timeout_s:g} s") from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error

    async def _post(self, delivery: Delivery) -> int:
        """The answer's status. However slowly the receiver talks, all takes no longer than the timeout."""
        if httpcore.URL(delivery.url).scheme != b"https":
            raise DestinationRefused("A webhook goes to an https URL.")
        pool = httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._network)
        request = pool.stream(
            "POST",
            delivery.url,
            headers=self._headers(delivery),
            content=delivery.body.encode(),
            extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
        )
        with anyio.fail_after(self._timeout_s):
            async with pool, request as response:
                return response.status

    def _headers(self, delivery: Delivery) -> dict[bytes | str, bytes | str]:
        now = datetime.now(UTC)
        return {
            "content-type": "application/json",
            "user-agent": f"movq/{version('movq')}",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(delivery.message_id, now, delivery.body),
        }
