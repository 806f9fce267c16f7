"""The page, in a real headless Chromium, against the real app.

Screenshots are kept in `$MOVQ_SCREENSHOTS`, when it is set, and else in pytest's folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.service.pictures import encoded, gradient
from tests.service.standin import StandIn, known_jobs

CHROMIUM = shutil.which("chromium")
PHONE = {"width": 375, "height": 812}
DESKTOP = {"width": 1280, "height": 900}

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says, and what broke; every test ends with none but those it expects."""
    return []


@pytest.fixture(params=["light"])
def page(
    browser: Browser,
    base_url: str,
    complaints: list[str],
    request: pytest.FixtureRequest,
) -> Iterator[Page]:
    context = browser.new_context(base_url=base_url, viewport=DESKTOP, color_scheme=request.param)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda failed: complaints.append(f"failed: {failed.url}"))
    yield page
    context.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("MOVQ_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def visit(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector("body[data-ready]")


def generate(page: Page, name: str, count: int) -> None:
    page.get_by_role("radio", name=name, exact=True).check(force=True)
    page.get_by_role("radio", name=str(count), exact=True).check(force=True)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".tile img")).to_have_count(count)


def photo(tmp_path: Path) -> Path:
    path = tmp_path / "it's a photo.jpg"
    path.write_bytes(encoded(gradient(640, 420), "JPEG"))
    return path


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_generate_and_reconstruct(
    page: Page,
    worker: StandIn,
    complaints: list[str],
    shots: Path,
    tmp_path: Path,
) -> None:
    visit(page)
    expect(page.locator("#health")).to_have_attribute("data-state", "ready")
    expect(page.locator("#health")).to_have_text("Ready, 1 worker")
    generate(page, "faces", 4)
    expect(page.locator("#generate-note")).to_contain_text("4 images, 10 steps")
    seeds = page.locator(".tile figcaption code").all_text_contents()
    assert len(set(seeds)) == 4
    assert all(page.evaluate("[...document.querySelectorAll('.tile img')].map(i => i.naturalWidth)"))
    command = page.locator("#generate-command code").inner_text()
    assert f'"seed":{seeds[0]}' in command
    assert '"class_id":0' in command

    page.locator("#file").set_input_files(photo(tmp_path))
    expect(page.locator("#compare")).to_have_attribute("data-state", "done")
    expect(page.locator("#psnr")).to_have_text("27.31 dB")
    expect(page.locator("#ssim")).to_have_text("0.871")
    expect(page.locator("#bits")).to_contain_text("of 24")
    expect(page.locator("#bytes")).to_have_text("19.1 kBof 806.4 kB")
    expect(page.locator("#reconstruct-note")).to_contain_text("640 \N{MULTIPLICATION SIGN} 420 pixels")
    assert "it'\\''s a photo.jpg" in page.locator("#reconstruct-command code").inner_text()
    page.locator("#split").fill("30")
    assert page.evaluate("document.getElementById('pair').style.getPropertyValue('--split')") == "30%"
    scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    page.screenshot(path=shots / f"desktop-{scheme}.png", full_page=True)
    assert complaints == []


def test_phone(
    page: Page,
    worker: StandIn,
    complaints: list[str],
    shots: Path,
    tmp_path: Path,
) -> None:
    page.set_viewport_size(PHONE)
    visit(page)
    generate(page, "hearts", 4)
    page.locator("#file").set_input_files(photo(tmp_path))
    expect(page.locator("#compare")).to_have_attribute("data-state", "done")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.screenshot(path=shots / "phone.png", full_page=True)
    assert complaints == []


def test_a_kept_seed_gives_the_same_image_again(
    page: Page,
    worker: StandIn,
    complaints: list[str],
) -> None:
    visit(page)
    generate(page, "fruit", 2)
    source = page.locator(".tile img").nth(1).get_attribute("src")
    page.get_by_role("button", name="Use seed").nth(1).click()
    generate(page, "fruit", 1)
    assert page.locator(".tile img").get_attribute("src") == source
    assert complaints == []


def test_a_generated_image_can_be_reconstructed(
    page: Page,
    worker: StandIn,
    complaints: list[str],
    shots: Path,
) -> None:
    visit(page)
    generate(page, "animals", 1)
    page.get_by_role("button", name="Reconstruct animals").click()
    expect(page.locator("#compare")).to_have_attribute("data-state", "done")
    expect(page.locator("#reconstruct-note")).to_contain_text("64 \N{MULTIPLICATION SIGN} 64")
    page.screenshot(path=shots / "one.png", full_page=True)
    assert complaints == []


def test_errors_stand_where_they_arise(
    page: Page,
    worker: StandIn,
    complaints: list[str],
    shots: Path,
    tmp_path: Path,
) -> None:
    visit(page)
    page.locator("#seed").fill("-5")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate-error")).to_have_text(
        "seed: input should be greater than or equal to 0, but was -5."
    )
    text = tmp_path / "notes.png"
    text.write_text("no image")
    page.locator("#file").set_input_files(text)
    expect(page.locator("#reconstruct-error")).to_contain_text("Send one still PNG, JPEG or WebP image.")
    page.screenshot(path=shots / "errors.png", full_page=True)
    worker.fail_with = "the device is on fire"
    page.locator("#seed").fill("")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate-error")).to_have_text("The job failed: the device is on fire")
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    # The browser itself notes each answer that is not 2xx; nothing else may be there.
    assert complaints
    assert all("status of 422" in complaint or "blob:" in complaint for complaint in complaints), complaints


def test_without_a_worker_the_page_says_so_and_the_job_can_be_cancelled(
    page: Page,
    complaints: list[str],
    shots: Path,
    redis_url: str,
) -> None:
    visit(page)
    expect(page.locator("#health")).to_have_text("No worker is listening; jobs wait until one comes.")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate-note")).to_have_text("Next in the queue")
    page.screenshot(path=shots / "waiting.png")
    page.locator("#generate-cancel").click()
    expect(page.locator("#grid")).to_have_text("Cancelled.")
    assert known_jobs(redis_url) == 1
    assert all("status of 503" in complaint for complaint in complaints), complaints
