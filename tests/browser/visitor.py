"""Visitor: somebody at the page, who does what people do there and notes what the console says."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

SLOW_MS = 12_000  # two cores, and others on them


class Visitor:
    """`complaints`: what the console said and what broke; every test ends with none but those it expects."""

    def __init__(self, page: Page, shots: Path) -> None:
        self.page = page
        self.shots = shots
        self.complaints: list[str] = []
        page.set_default_timeout(SLOW_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def arrive(self, mode: str = "") -> None:
        self.page.goto(f"/{mode}")
        self.page.wait_for_selector("body[data-ready]")

    def turn_to(self, mode: str) -> None:
        self.page.get_by_role("link", name=mode, exact=True).click()

    def keep(self, name: str, whole: bool = False) -> None:
        """A screenshot."""
        self.page.screenshot(path=self.shots / f"{name}.png", full_page=whole)

    # -- what is there --------------------------------------------------------------------------

    @property
    def mode(self) -> Locator:
        return self.page.locator(".mode:not([hidden])")

    @property
    def boards(self) -> Locator:
        """Images that are finished."""
        return self.mode.locator(".board[data-state=done]")

    @property
    def note(self) -> Locator:
        return self.mode.locator(".note")

    @property
    def error(self) -> Locator:
        return self.mode.locator(".error")

    def button(self, name: str) -> Locator:
        return self.mode.get_by_role("button", name=name, exact=True)

    def shown(self) -> list[str | None]:
        """Links of the images that were generated."""
        return [image.get_attribute("src") for image in self.boards.locator("img").all()]

    # -- what is done ---------------------------------------------------------------------------

    def choose(self, class_name: str, count: int) -> None:
        self.mode.get_by_role("radio", name=class_name, exact=True).check(force=True)
        self.mode.get_by_role("radio", name=str(count), exact=True).check(force=True)

    def start(self, count: int | None = None) -> None:
        if count is not None:
            self.mode.get_by_role("radio", name=str(count), exact=True).check(force=True)
        self.button("Generate").click()

    def generate(self, count: int) -> None:
        self.start(count)
        expect(self.boards).to_have_count(count, timeout=SLOW_MS)
        expect(self.button("Generate")).to_be_enabled()

    def give(self, path: Path) -> None:
        """Choose a file."""
        self.mode.locator("input[type=file]").set_input_files(path)

    def drag(self, over: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the pointer, between two places of an element, each a share of its width and height."""
        expect(over).to_be_visible(timeout=SLOW_MS)
        over.scroll_into_view_if_needed()  # and until it stands still
        box = over.bounding_box()
        assert box is not None
        places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end)]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=12)
        self.page.mouse.up()

    def focus_by_tab(self, on: Locator) -> None:
        """Press Tab until the focus is there; fails when it never is."""
        for _ in range(60):
            if on.evaluate("node => node === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError("no way there by Tab")
