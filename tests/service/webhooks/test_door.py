"""Which webhooks the service takes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.conftest import Serve


def refusal(answer: httpx.Response) -> Any:
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.text


def test_without_a_secret_none_is_taken(client: httpx.Client) -> None:
    answer = client.post("/v1/generations", json={"webhook_url": "https://example.org/hook"})
    assert "it has no MOVQ_WEBHOOK_SECRET to sign them with" in refusal(answer)


def test_with_one_they_are(serve: Serve, secret: str) -> None:
    client = serve(webhook_secret=secret)
    answer = client.post("/v1/generations", json={"webhook_url": "https://example.org/hook?a=b#c"})
    assert answer.status_code == 202
    assert secret not in answer.text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/hook", "scheme should be 'https'"),
        ("https://localhost/hook", "localhost is not a public host"),
        ("https://127.0.0.1/hook", "127.0.0.1 is a private address"),
        ("https://2130706433/hook", "127.0.0.1 is a private address"),
        ("https://0x7f.1/hook", "127.0.0.1 is a private address"),
        ("https://[::1]/hook", "::1 is a private address"),
        ("https://169.254.169.254/latest/meta-data", "is a private address"),
        ("https://user:word@example.org/hook", "carries no user and password"),
    ],
)
def test_what_is_plainly_wrong_is_said_at_once(serve: Serve, secret: str, url: str, words: str) -> None:
    answer = serve(webhook_secret=secret).post("/v1/generations", json={"webhook_url": url})
    assert words in refusal(answer)
