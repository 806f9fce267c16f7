"""Edit: what is painted over is made anew."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from movq_core.blobs import BlobStore
from movq_core.protocol import EditRequest
from tests.browser.visitor import Visitor
from tests.service.standin import StandIn


def mask_of(worker: StandIn, blobs: BlobStore) -> np.ndarray:
    """The mask that the worker was sent; True where the image is to be made anew."""
    request = worker.seen[-1]
    assert isinstance(request, EditRequest)
    assert request.mask_key is not None
    return np.asarray(Image.open(io.BytesIO(blobs.get(request.mask_key)))) > 0


def finish(visitor: Visitor) -> None:
    visitor.button("Make anew").click()
    expect(visitor.note).to_contain_text("Made anew")


def test_inpaint_with_the_brush(
    visitor: Visitor, worker: StandIn, blobs: BlobStore, photograph: Path
) -> None:
    worker.steps(6, 0.1)
    visitor.turn_to("Edit")
    visitor.keep("edit-start")
    visitor.give(photograph)
    canvas = visitor.mode.locator("canvas.mask")
    visitor.drag(canvas, (0.2, 0.3), (0.4, 0.3))
    visitor.drag(canvas, (0.2, 0.8), (0.9, 0.8))
    visitor.button("Undo").click()
    visitor.keep("edit-painted")
    visitor.button("Make anew").click()
    expect(visitor.mode.locator(".known").first).to_contain_text("known")
    visitor.keep("edit-settling")
    expect(visitor.note).to_contain_text("Made anew")
    mask = mask_of(worker, blobs)
    assert mask.shape == (300, 451)
    assert mask[90, 135]
    assert not mask[240, 225]  # taken back
    assert not mask[0].any()
    assert 0.02 < mask.mean() < 0.15
    visitor.keep("edit-done")
    after = visitor.mode.locator(".pair .after").get_attribute("src")
    assert after is not None
    visitor.page.reload()
    visitor.page.get_by_role("button", name="Show again: faces, edited").click()
    expect(visitor.note).to_contain_text("Made anew")
    expect(visitor.mode.locator(".pair .after")).to_have_attribute("src", after)
    assert visitor.complaints == []


def test_the_eraser(visitor: Visitor, worker: StandIn, blobs: BlobStore, photograph: Path) -> None:
    visitor.turn_to("Edit")
    visitor.give(photograph)
    canvas = visitor.mode.locator("canvas.mask")
    visitor.drag(canvas, (0.2, 0.5), (0.8, 0.5))
    visitor.mode.get_by_role("radio", name="Eraser").check(force=True)
    visitor.drag(canvas, (0.5, 0.2), (0.5, 0.8))
    finish(visitor)
    mask = mask_of(worker, blobs)
    assert mask[150, 120]
    assert not mask[150, 225]
    assert mask[150, 330]


def test_without_a_pointer(visitor: Visitor, worker: StandIn, blobs: BlobStore, photograph: Path) -> None:
    visitor.turn_to("Edit")
    visitor.give(photograph)
    visitor.focus_by_tab(visitor.mode.locator("summary").first)
    visitor.page.keyboard.press("Enter")
    for side, value in zip(("left", "top", "right", "bottom"), ("100", "50", "200", "150"), strict=True):
        visitor.focus_by_tab(visitor.mode.get_by_label(side, exact=True))
        visitor.page.keyboard.type(value)
    visitor.page.keyboard.press("ArrowUp")  # one more below
    visitor.focus_by_tab(visitor.button("Add the box"))
    visitor.page.keyboard.press("Enter")
    visitor.focus_by_tab(visitor.button("Make anew"))
    visitor.keep("edit-box", whole=True)
    visitor.page.keyboard.press("Enter")
    expect(visitor.note).to_contain_text("Made anew")
    expected = np.zeros((300, 451), bool)
    expected[50:151, 100:200] = True
    assert np.array_equal(mask_of(worker, blobs), expected)
    assert visitor.complaints == []


def test_a_box_that_is_none(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Edit")
    visitor.mode.get_by_text("A box instead").click()
    visitor.button("Add the box").click()
    expect(visitor.mode.locator(".boxes .problem")).to_have_text("Choose an image first.")
    visitor.give(photograph)
    expect(visitor.mode.locator("canvas.mask")).to_be_visible()
    visitor.mode.get_by_label("right", exact=True).fill("900")
    visitor.button("Add the box").click()
    expect(visitor.mode.locator(".boxes .problem")).to_contain_text("within 451")


def test_nothing_painted_is_said(visitor: Visitor, worker: StandIn, photograph: Path) -> None:
    visitor.turn_to("Edit")
    visitor.give(photograph)
    visitor.button("Make anew").click()
    expect(visitor.error).to_contain_text("mask")
    visitor.keep("edit-error")


def test_vary_a_generated_image(visitor: Visitor, worker: StandIn) -> None:
    visitor.choose("animals", 1)
    visitor.generate(1)
    visitor.mode.get_by_role("button", name="Vary").click()
    expect(visitor.note).to_contain_text("Made anew")
    request = worker.seen[-1]
    assert isinstance(request, EditRequest)
    assert (request.class_id, request.mask_key, request.strength, request.num_images) == (3, None, 0.6, 4)
    visitor.button("Variant 3").click()
    third = visitor.shown()[2]
    assert third is not None
    expect(visitor.mode.locator(".pair .after")).to_have_attribute("src", third)
    visitor.keep("vary")
    assert visitor.complaints == []


def test_the_same_from_code(
    visitor: Visitor, worker: StandIn, blobs: BlobStore, photograph: Path, tmp_path: Path
) -> None:
    visitor.turn_to("Edit")
    visitor.give(photograph)
    visitor.drag(visitor.mode.locator("canvas.mask"), (0.2, 0.3), (0.4, 0.3))
    finish(visitor)
    mask = mask_of(worker, blobs)
    visitor.button("curl").click()
    code = visitor.mode.locator(".snippet")
    for command in (["bash", "-c"], [sys.executable, "-c"]):
        subprocess.run([*command, code.inner_text()], cwd=tmp_path, check=True, capture_output=True)
        assert worker.seen[-1] == worker.seen[0]
        assert np.array_equal(mask_of(worker, blobs), mask)
        visitor.button("Python").click()
        expect(code).to_contain_text("movq_client")
    assert len(worker.seen) == 3
