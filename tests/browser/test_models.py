"""Several models side by side: one is chosen, and the page offers what it can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import DEMO
from tests.browser.visitor import SLOW_MS, Visitor
from tests.end_to_end.stack import Stack


def test_a_model_is_chosen(
    visit: Callable[..., Visitor], launch: Callable[..., Stack], tiny_bundle: Path, photograph: Path
) -> None:
    tokenizer = DEMO.parent / "photographs-64"
    folders = (tiny_bundle, DEMO.resolve(), tokenizer.resolve())
    stack = launch(MOVQ_MODEL_DIR=",".join(map(str, folders)))
    visitor = visit(stack.url)
    visitor.arrive()
    visitor.generate(1)
    model = visitor.page.get_by_label("Model")
    model.select_option("emoji-64")
    expect(visitor.mode.get_by_role("radio", name="smiley", exact=True)).to_be_checked()
    visitor.generate(1)
    expect(visitor.mode.locator(".board")).to_have_attribute("style", "--cells: 8;")
    visitor.keep("models")

    model.select_option("photographs-64")  # it has no prior
    expect(visitor.page.get_by_role("navigation").get_by_role("link")).to_have_text(["Reconstruct"])
    visitor.give(photograph)
    expect(visitor.note).to_contain_text("451", timeout=SLOW_MS)
    visitor.button("curl").click()
    expect(visitor.mode.locator(".snippet")).to_contain_text("?model=photographs-64")
    visitor.keep("models-tokenizer")

    visitor.page.get_by_role("button", name="Show again: smiley").click()
    expect(model).to_have_value("emoji-64")
    expect(visitor.boards).to_have_count(1)
    assert visitor.complaints == []
