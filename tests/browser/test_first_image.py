"""The first image: all of movq with the demo model, from the address opened to the image seen."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import SLOW_MS, Visitor
from tests.end_to_end.stack import Stack


def test_one_click(visit: Callable[..., Visitor], demo: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    visitor = visit(demo.url)
    begun_s = time.monotonic()
    visitor.page.goto("/")
    visitor.button("Generate").click()
    expect(visitor.mode.locator(".known").first).to_contain_text("known", timeout=SLOW_MS)
    first_s = time.monotonic() - begun_s
    expect(visitor.boards).to_have_count(4, timeout=SLOW_MS)
    whole_s = time.monotonic() - begun_s
    expect(visitor.note).to_contain_text("4 images")
    visitor.keep("demo")
    with capsys.disabled():
        print(f"\none click: first step seen after {first_s:.2f} s, four images after {whole_s:.2f} s")
    assert visitor.complaints == []


def test_edit_with_the_demo_model(visit: Callable[..., Visitor], demo: Stack) -> None:
    visitor = visit(demo.url)
    visitor.arrive()
    visitor.generate(1)
    visitor.mode.get_by_role("button", name="Edit").click()
    canvas = visitor.mode.locator("canvas.mask")
    expect(canvas).to_be_visible()
    visitor.drag(canvas, (0.3, 0.65), (0.7, 0.65))
    visitor.button("Make anew").click()
    expect(visitor.note).to_contain_text("Made anew", timeout=SLOW_MS)
    visitor.keep("demo-edit")
    visitor.turn_to("Generate")
    visitor.mode.get_by_role("button", name="Vary").click()
    expect(visitor.boards).to_have_count(4, timeout=SLOW_MS)
    visitor.keep("demo-vary")
    visitor.turn_to("Generate")
    visitor.mode.get_by_role("button", name="Reconstruct").click()
    expect(visitor.mode.locator(".maps canvas")).to_have_count(4, timeout=SLOW_MS)
    visitor.keep("demo-reconstruct")
    assert visitor.complaints == []
