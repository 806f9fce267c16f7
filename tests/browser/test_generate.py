"""Generate: images that settle before one's eyes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect
from redis import Redis

from movq_core.protocol import GenerateRequest
from tests.browser.visitor import SLOW_MS, Visitor
from tests.end_to_end.stack import until
from tests.service.standin import StandIn

ALPHAS = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [...new Set(data.filter((_, at) => at % 4 === 3))];
}"""
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_images_are_seen_settling_step_by_step(visitor: Visitor, worker: StandIn) -> None:
    worker.steps(12, 0.3)
    visitor.keep("generate-start")
    visitor.start(4)
    expect(visitor.note).to_contain_text("of the codes known")
    expect(visitor.mode.locator(".known").nth(3)).to_have_text(re.compile(r"^[2-7]\d % known"))
    seen = visitor.mode.locator(".board canvas").nth(3).evaluate(ALPHAS)
    assert sorted(seen) == [0, 255]  # some is there, and some is still masked
    visitor.keep("generate-settling")
    expect(visitor.boards).to_have_count(4)
    expect(visitor.note).to_contain_text("4 images in 10 steps")
    expect(visitor.page.locator("#history li")).to_have_count(1)
    visitor.keep("generate-done")
    assert visitor.complaints == []


def test_frames_that_came_at_once_are_played_slower(visitor: Visitor, worker: StandIn) -> None:
    worker.steps(12, 0.0)
    visitor.generate(1)
    expect(visitor.note).to_contain_text("Played slower than it ran")


def test_who_wants_no_motion_sees_none(visit, base_url: str, worker: StandIn) -> None:
    worker.steps(6, 0.05)
    visitor = visit(base_url, reduced_motion="reduce")
    visitor.arrive()
    visitor.start(1)
    expect(visitor.boards).to_have_count(1)
    assert visitor.mode.locator(".board canvas").evaluate(ALPHAS) == [0]
    expect(visitor.note).not_to_contain_text("slower")


def test_a_kept_seed_gives_the_same_image_again(visitor: Visitor, worker: StandIn) -> None:
    visitor.generate(2)
    second = visitor.shown()[1]
    visitor.mode.get_by_role("button", name="Keep the seed of").nth(1).click()
    visitor.generate(1)
    assert visitor.shown() == [second]
    assert visitor.complaints == []


def test_the_choices_are_sent(visitor: Visitor, worker: StandIn) -> None:
    visitor.choose("hearts", 1)
    visitor.mode.get_by_text("Sampling").click()
    visitor.mode.get_by_label("Seed", exact=True).fill("77")
    visitor.mode.get_by_label("Steps").fill("24")
    visitor.mode.get_by_label("Order").select_option("halton")
    visitor.mode.get_by_label("Top k").fill("64")
    visitor.keep("generate-sampling", whole=True)
    visitor.generate(1)
    request = worker.seen[-1]
    assert isinstance(request, GenerateRequest)
    assert (request.class_id, request.num_images) == (1, 1)
    sampling = request.sampling
    assert (sampling.seed, sampling.steps, sampling.top_k) == (77, 24, 64)
    assert sampling.order.value == "halton"
    assert sampling.guidance_scale == 2.5  # the model's own


def test_a_class_is_found_by_its_name(visitor: Visitor, worker: StandIn) -> None:
    search = visitor.mode.get_by_role("searchbox")
    search.fill("wea")
    expect(visitor.mode.locator(".tiles label")).to_have_count(1)
    search.press("Enter")
    visitor.generate(1)
    request = worker.seen[-1]
    assert isinstance(request, GenerateRequest)
    assert request.class_id == 11
    search.fill("nothing of the kind")
    expect(visitor.mode.get_by_text("No class of this name.")).to_be_visible()


def test_without_a_pointer(visitor: Visitor, worker: StandIn) -> None:
    visitor.focus_by_tab(visitor.mode.get_by_role("radio", name="faces", exact=True))
    visitor.page.keyboard.press("ArrowRight")
    visitor.focus_by_tab(visitor.button("Generate"))
    visitor.keep("keyboard")
    visitor.page.keyboard.press("Enter")
    expect(visitor.boards).to_have_count(4)
    request = worker.seen[-1]
    assert isinstance(request, GenerateRequest)
    assert request.class_id == 1
    assert visitor.complaints == []


def test_cancel(visitor: Visitor, worker: StandIn) -> None:
    worker.steps(500, 0.05)
    visitor.start(2)
    expect(visitor.mode.locator(".known").first).to_contain_text("known")
    visitor.button("Cancel").click()
    expect(visitor.note).to_have_text("Cancelled.")
    visitor.keep("cancelled")
    worker.steps(2)
    visitor.generate(1)  # the worker is free, and so is the page
    assert visitor.complaints == []


def watchers(redis: Redis, key: bytes) -> int:
    """Listeners that have not lapsed."""
    return int(redis.zcount(key, redis.time()[0], "+inf"))


def test_nobody_watches_in_a_hidden_tab(visitor: Visitor, worker: StandIn, redis_url: str) -> None:
    worker.steps(110, 0.1)
    visitor.start(1)
    expect(visitor.mode.locator(".known").first).to_contain_text("known")
    with Redis.from_url(redis_url) as redis:
        (key,) = redis.keys("movq:watchers:*")
        assert watchers(redis, key) > 0
        visitor.page.evaluate(f"({HIDE})(true)")
        until(lambda: watchers(redis, key) == 0, 15, "nobody watches")
    visitor.page.evaluate(f"({HIDE})(false)")
    expect(visitor.boards).to_have_count(1, timeout=SLOW_MS)
    assert visitor.complaints == []


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_the_same_from_code(visitor: Visitor, worker: StandIn, tmp_path: Path) -> None:
    visitor.choose("food", 1)
    visitor.generate(1)
    code = visitor.mode.locator(".snippet")
    visitor.button("curl").click()
    subprocess.run(["bash", "-c", code.inner_text()], cwd=tmp_path, check=True, capture_output=True)
    made = worker.seen[0]
    assert worker.seen[-1] == made
    assert size_of(tmp_path / "out.png") == (64, 64)
    visitor.button("Python").click()
    expect(code).to_contain_text("movq_client")
    (tmp_path / "out.png").unlink()
    subprocess.run([sys.executable, "-c", code.inner_text()], cwd=tmp_path, check=True)
    assert worker.seen[-1] == made
    assert size_of(tmp_path / "out.png") == (64, 64)
    visitor.keep("generate-code", whole=True)


def test_history_survives_a_reload(visitor: Visitor, worker: StandIn, shots: Path) -> None:
    visitor.choose("plants", 2)
    visitor.generate(2)
    shown = visitor.shown()
    visitor.choose("tools", 1)
    visitor.generate(1)
    visitor.page.reload()
    visitor.page.wait_for_selector("body[data-ready]")
    again = visitor.page.get_by_role("button", name="Show again: plants")
    again.click()
    expect(visitor.boards).to_have_count(2)
    assert visitor.shown() == shown
    expect(visitor.mode.get_by_role("radio", name="plants", exact=True)).to_be_checked()
    visitor.page.get_by_role("button", name="Clear").click()
    expect(visitor.page.locator("#history li")).to_have_count(0)
    assert visitor.complaints == []


def test_history_forgets_images_that_are_gone(visitor: Visitor, worker: StandIn, settings) -> None:
    visitor.generate(1)
    (source,) = visitor.shown()
    assert source is not None
    Path(settings.blobs_url, source.removeprefix("/v1/")).unlink()
    visitor.page.context.clear_cookies()
    session = visitor.page.context.new_cdp_session(visitor.page)
    session.send("Network.clearBrowserCache")
    visitor.page.reload()
    expect(visitor.page.locator("#history li")).to_have_count(0)
    expect(visitor.page.get_by_text("What you make is kept here")).to_be_visible()
