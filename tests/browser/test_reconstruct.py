"""Reconstruct: an image, and what its codes keep of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from movq_core.protocol import ReconstructRequest
from tests.browser.visitor import Visitor
from tests.service.standin import StandIn


def test_a_photograph_with_the_slider_moved(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Reconstruct")
    visitor.keep("reconstruct-start")
    visitor.give(photograph)
    expect(visitor.note).to_contain_text("451 × 300 pixels")  # noqa: RUF001
    expect(visitor.mode.locator(".figures")).to_contain_text("27.31 dB")
    pair = visitor.mode.locator(".pair")
    visitor.drag(pair, (0.5, 0.5), (0.25, 0.5))
    split = float(pair.evaluate("node => parseFloat(node.style.getPropertyValue('--split'))"))
    assert 20 < split < 30
    visitor.page.keyboard.press("End")  # by the keyboard, too
    assert pair.evaluate("node => node.style.getPropertyValue('--split')") == "100%"
    pair.get_by_role("slider").fill("30")
    visitor.keep("reconstruct-done")
    assert visitor.complaints == []


def test_the_code_map(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Reconstruct")
    visitor.give(photograph)
    maps = visitor.mode.locator(".maps canvas")
    expect(maps).to_have_count(4)
    assert maps.first.evaluate("canvas => [canvas.width, canvas.height]") == [57, 38]
    maps.first.hover()
    expect(visitor.mode.locator(".pointed")).to_contain_text("code")


def test_a_generated_image(visitor: Visitor, worker: StandIn) -> None:
    visitor.generate(1)
    visitor.mode.get_by_role("button", name="Reconstruct").click()
    expect(visitor.note).to_contain_text("64 × 64 pixels")  # noqa: RUF001
    assert isinstance(worker.seen[-1], ReconstructRequest)
    expect(visitor.page.locator("#history li")).to_have_count(2)
    assert visitor.complaints == []


def test_a_pasted_image(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Reconstruct")
    visitor.page.evaluate(
        """async url => {
          const blob = await (await fetch(url)).blob();
          const clipboard = new DataTransfer();
          clipboard.items.add(new File([blob], 'icon.png', {type: 'image/png'}));
          document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: clipboard}));
        }""",
        made := _an_image_of(worker, visitor),
    )
    expect(visitor.note).to_contain_text("64 × 64 pixels")  # noqa: RUF001
    assert made.startswith("/v1/images/")


def _an_image_of(worker: StandIn, visitor: Visitor) -> str:
    """The link of an image that the service has."""
    answer = visitor.page.request.post("/generate", data={"class_id": 0})
    return str(answer.json()["images"][0])


def test_a_file_that_is_no_image(visitor: Visitor, worker: StandIn, tmp_path: Path, photograph: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no image")
    visitor.turn_to("Reconstruct")
    visitor.give(text)
    expect(visitor.error).to_contain_text("Send one still PNG, JPEG or WebP image.")
    visitor.keep("wrong-file")
    visitor.give(photograph)  # and on with the right one
    expect(visitor.note).to_contain_text("451 × 300 pixels")  # noqa: RUF001
    expect(visitor.error).to_be_hidden()
    assert all("status of 422" in complaint for complaint in visitor.complaints), visitor.complaints


def test_the_same_from_code(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Reconstruct")
    visitor.give(photograph)
    visitor.button("curl").click()
    code = visitor.mode.locator(".snippet")
    for command in (["bash", "-c"], [sys.executable, "-c"]):
        subprocess.run([*command, code.inner_text()], cwd=photograph.parent, check=True, capture_output=True)
        assert worker.seen[-1] == worker.seen[0]
        with Image.open(photograph.parent / "out.png") as image:
            assert image.size == (451, 300)
        (photograph.parent / "out.png").unlink()
        visitor.button("Python").click()
        expect(code).to_contain_text("movq_client")
    assert len(worker.seen) == 3
