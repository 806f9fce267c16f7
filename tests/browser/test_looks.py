"""How the page looks and reads: on a phone, in the dark, to a screen reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.visitor import Visitor
from tests.service.standin import StandIn

PHONE = {"viewport": {"width": 375, "height": 812}, "has_touch": True, "device_scale_factor": 2}
DARK = {"color_scheme": "dark"}
CONTEXTS = {"light": {}, "dark": DARK, "phone": PHONE, "phone-dark": PHONE | DARK}


def faults(visitor: Visitor) -> list[str]:
    """axe-core's serious and critical ones."""
    found = Axe().run(visitor.page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def fits(visitor: Visitor) -> bool:
    """Nothing stands out to the right."""
    width = visitor.page.viewport_size
    assert width is not None
    return bool(visitor.page.evaluate("document.documentElement.scrollWidth") <= width["width"])


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_mode(
    context: str, visit: Callable[..., Visitor], base_url: str, worker: StandIn, photograph: Path
) -> None:
    visitor = visit(base_url, reduced_motion="reduce", **CONTEXTS[context])
    visitor.arrive()
    visitor.keep(f"{context}-start")
    assert faults(visitor) == []
    visitor.generate(4)
    visitor.mode.get_by_text("Sampling").click()
    visitor.keep(f"{context}-generate", whole=True)
    assert (fits(visitor), faults(visitor)) == (True, [])

    visitor.turn_to("Reconstruct")
    assert (fits(visitor), faults(visitor)) == (True, [])
    visitor.give(photograph)
    expect(visitor.mode.locator(".maps canvas")).to_have_count(4)
    visitor.keep(f"{context}-reconstruct", whole=True)
    assert (fits(visitor), faults(visitor)) == (True, [])

    visitor.turn_to("Edit")
    assert (fits(visitor), faults(visitor)) == (True, [])
    visitor.give(photograph)
    visitor.drag(visitor.mode.locator("canvas.mask"), (0.3, 0.4), (0.6, 0.5))
    visitor.keep(f"{context}-paint", whole=True)
    assert (fits(visitor), faults(visitor)) == (True, [])
    visitor.button("Make anew").click()
    expect(visitor.note).to_contain_text("Made anew")
    visitor.keep(f"{context}-edit", whole=True)
    assert (fits(visitor), faults(visitor)) == (True, [])
    assert visitor.complaints == []


def test_a_finger_paints(
    visit: Callable[..., Visitor], base_url: str, worker: StandIn, photograph: Path
) -> None:
    visitor = visit(base_url, **PHONE)
    visitor.arrive("#edit")
    visitor.give(photograph)
    canvas = visitor.mode.locator("canvas.mask")
    expect(canvas).to_be_visible()
    canvas.tap()
    painted = canvas.evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    )
    assert painted
