"""What goes wrong is said where it arose, and the page goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest
from service.settings import Settings
from tests.browser.visitor import SLOW_MS, Visitor
from tests.end_to_end.stack import Stack
from tests.service.standin import StandIn

RECOVERED_MS = 60_000


def in_sight(of: Locator) -> bool:
    """Nothing lies over the middle of it."""
    return bool(
        of.evaluate(
            """node => {
              const {left, top, width, height} = node.getBoundingClientRect();
              return node.contains(document.elementFromPoint(left + width / 2, top + height / 2));
            }"""
        )
    )


def test_a_wrong_field(visitor: Visitor, worker: StandIn) -> None:
    visitor.mode.get_by_text("Sampling").click()
    seed = visitor.mode.get_by_label("Seed", exact=True)
    seed.fill("-5")
    visitor.button("Generate").click()
    problem = visitor.page.locator("#generate-seed-problem")
    expect(problem).to_contain_text("greater than or equal to 0")
    expect(seed).to_have_attribute("aria-invalid", "true")
    expect(seed).to_be_focused()
    assert in_sight(seed)
    assert in_sight(problem)
    visitor.keep("wrong-field")
    seed.fill("5")
    visitor.generate(1)
    expect(problem).to_be_hidden()
    assert all("status of 422" in complaint for complaint in visitor.complaints), visitor.complaints


def test_a_job_that_failed(visitor: Visitor, worker: StandIn) -> None:
    worker.fail_with = "the device is on fire"
    visitor.start(1)
    expect(visitor.error).to_have_text("The job failed: the device is on fire")
    visitor.keep("failed")
    worker.fail_with = None
    visitor.generate(1)
    expect(visitor.error).to_be_hidden()


def test_no_worker_listens(
    visit: Callable[..., Visitor], base_url: str, settings: Settings, blobs: BlobStore, manifest: Manifest
) -> None:
    visitor = visit(base_url)
    visitor.arrive()
    expect(visitor.page.locator("#health")).to_have_attribute("data-state", "away", timeout=SLOW_MS)
    visitor.start(1)
    expect(visitor.note).to_contain_text("Next in the queue")
    visitor.keep("no-worker")
    with StandIn(settings.redis_url, blobs, manifest):
        expect(visitor.boards).to_have_count(1, timeout=SLOW_MS)
        expect(visitor.page.locator("#health")).to_have_attribute("data-state", "ready", timeout=SLOW_MS)
    assert all("status of 503" in complaint for complaint in visitor.complaints), visitor.complaints


def begin_long(visitor: Visitor) -> None:
    """A job of some seconds, which has begun."""
    visitor.arrive()
    visitor.mode.get_by_label("Steps").fill("64")
    visitor.start(4)
    expect(visitor.mode.locator(".known").first).to_contain_text("known", timeout=SLOW_MS)
    expect(visitor.button("Cancel")).to_be_visible()


def test_a_worker_is_killed_and_comes_back(visit: Callable[..., Visitor], demo: Stack) -> None:
    visitor = visit(demo.url)
    begin_long(visitor)
    killed = demo.children()["worker"]
    demo.kill("worker")
    visitor.keep("worker-killed")
    expect(visitor.boards).to_have_count(4, timeout=RECOVERED_MS)
    expect(visitor.error).to_be_hidden()
    assert demo.children()["worker"] != killed
    visitor.generate(1)
    visitor.keep("worker-back")


def test_the_service_goes_and_comes_back(visit: Callable[..., Visitor], demo: Stack) -> None:
    visitor = visit(demo.url)
    begin_long(visitor)
    demo.kill("service")
    expect(visitor.note).to_contain_text("The connection broke", timeout=SLOW_MS)
    visitor.keep("service-killed")
    expect(visitor.boards).to_have_count(4, timeout=RECOVERED_MS)
    expect(visitor.error).to_be_hidden()
    visitor.generate(1)


class TestWithKeys:
    """The service wants a key."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        digest = sha256(b"open sesame").hexdigest()
        return Settings(**settings.model_dump() | {"api_keys": f"friend:{digest}"})

    def test_the_page_asks_for_the_key(
        self, visit: Callable[..., Visitor], base_url: str, worker: StandIn
    ) -> None:
        visitor = visit(base_url)
        visitor.page.goto("/")
        dialog = visitor.page.get_by_role("dialog")
        dialog.get_by_label("Key").fill("wrong")
        visitor.keep("key")
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog.get_by_role("alert")).to_be_visible()
        dialog.get_by_label("Key").fill("open sesame")
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_be_hidden()
        worker.steps(3, 0.05)
        visitor.page.wait_for_selector("body[data-ready]")
        visitor.generate(1)
        assert visitor.boards.locator("img").evaluate("image => image.naturalWidth") == 64
        assert "sesame" not in visitor.page.evaluate("JSON.stringify(localStorage) + document.cookie")
        visitor.page.reload()  # the cookie is enough
        visitor.page.wait_for_selector("body[data-ready]")
        expect(dialog).to_be_hidden()


def test_nothing_from_elsewhere_is_loaded(visitor: Visitor, worker: StandIn, base_url: str) -> None:
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.arrive("#reconstruct")
    visitor.page.reload()
    visitor.page.wait_for_selector("body[data-ready]")
    assert asked
    assert all(url.startswith((base_url, "blob:")) for url in asked), asked


def test_every_module_is_small() -> None:
    web = Path("service/web")
    long = {path.name: len(path.read_text().splitlines()) for path in web.glob("*.js")}
    assert max(long.values()) < 300, long
