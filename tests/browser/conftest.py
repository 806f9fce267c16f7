"""A real headless Chromium before the real app, with the stand-in worker or, in some tests, all of movq.

Screenshots are kept in `$MOVQ_SCREENSHOTS`, when it is set, and else in pytest's folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from skimage import data

from tests.browser.visitor import Visitor
from tests.end_to_end.conftest import launch, tiny_bundle
from tests.end_to_end.stack import Stack
from tests.service.conftest import base_url, blobs, bundle, manifest, settings, worker
from tests.service.standin import StandIn

__all__ = ["base_url", "blobs", "bundle", "launch", "manifest", "settings", "tiny_bundle", "worker"]

DEMO = Path("models/emoji-64")
CHROMIUM = shutil.which("chromium")
DESKTOP = {"width": 1280, "height": 900}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"))


@pytest.fixture(scope="package")  # not the session: while it is open this thread has a running loop
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("MOVQ_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser: Browser, shots: Path) -> Iterator[Callable[..., Visitor]]:
    """`visit(url, **context)`: somebody opens the page there; see Visitor."""
    pages: list[Page] = []

    def open_at(url: str, **options: object) -> Visitor:
        context = browser.new_context(base_url=url, **({"viewport": DESKTOP} | options))  # type: ignore[arg-type]
        pages.append(context.new_page())
        return Visitor(pages[-1], shots)

    yield open_at
    for page in pages:
        page.context.close()


@pytest.fixture
def visitor(visit: Callable[..., Visitor], base_url: str, worker: StandIn) -> Visitor:
    """One at a desk, before a page that has loaded, of a service with a worker."""
    visitor = visit(base_url)
    visitor.arrive()
    return visitor


@pytest.fixture
def demo(launch: Callable[..., Stack]) -> Stack:
    """All of movq with the demo model, which takes seconds for what the tiny bundle does at once."""
    return launch(MOVQ_MODEL_DIR=str(DEMO.resolve()))


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat, 451 x 300."""
    path = tmp_path_factory.mktemp("photographs") / "it's a cat.jpg"
    Image.fromarray(data.chelsea()).save(path, quality=92)
    return path
