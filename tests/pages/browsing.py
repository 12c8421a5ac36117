"""Pages opened in Chromium, and what every one must be: quiet, self-contained, no wider than its window, readable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
# What a person would see cut off: boxes that reach beyond the window, outside regions that scroll by themselves.
WIDER = """() => [...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && r.right > innerWidth + 0.5 && !e.closest('.scroll') && !e.closest('svg svg') && !e.closest('.away');
}).map(e => e.outerHTML.slice(0, 120))"""


class Opened:
    """A page in Chromium, with everything it said and asked for."""

    def __init__(self, browser: Any, address: Path | str, size: tuple[int, int] = (1200, 900), **context: Any):
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address.as_uri() if isinstance(address, Path) else address)

    def value(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        """Waits for it to be true; Playwright's own waiting compiles a string, which the page's policy forbids."""
        for _ in range(200):
            if self.value(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    def frames_shown(self, player: str = ".player", fps: float = 8) -> list[int]:
        """The frame each clip of a player stands on, once it has got there."""
        videos = f"[...document.querySelector({player!r}).querySelectorAll('video')]"
        self.until(f"{videos}.every(v => v.readyState >= 2 && !v.seeking)")
        return self.value(f"{videos}.map(v => Math.floor(v.currentTime * {fps} + 1e-3))")

    def close(self) -> None:
        """Ends it; it must have said nothing and asked for nothing but itself."""
        self.context.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "blob:", "data:"))] == []


def axe() -> Path:
    """axe-core, which `npm install axe-core` puts into a folder above the tests; skips where it is not."""
    for folder in Path(__file__).resolve().parents:
        found = folder / "node_modules" / "axe-core" / "axe.min.js"
        if found.is_file():
            return found
    pytest.skip("axe-core is not installed; npm install axe-core in the project or a folder above it")


def problems(view: Opened) -> list[str]:
    """What axe-core finds that is serious or critical, contrast included: rule, and the first places."""
    view.page.evaluate(axe().read_text(encoding="utf-8"))
    found = view.value("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {[node['html'][:120] + ' | ' + node['failureSummary'][-160:] for node in rule['nodes'][:3]]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def fits(view: Opened) -> None:
    """Nothing is wider than the window."""
    assert view.value("document.documentElement.scrollWidth <= innerWidth"), view.value(WIDER)
    assert view.value(WIDER) == []


def brightness(view: Opened) -> float:
    """Of the page's paper, 0 to 255."""
    colour = view.value("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def looks_right(browser: Any, address: Path | str, ready: str = "true", **context: Any) -> None:
    """In both sizes and both schemes: nothing too wide, nothing serious for axe-core, the paper as the scheme says."""
    for size in SIZES.values():
        for scheme in SCHEMES:
            view = Opened(browser, address, size, color_scheme=scheme, **context)
            view.until(ready)
            fits(view)
            assert brightness(view) > 200 if scheme == "light" else brightness(view) < 60
            found = problems(view)
            assert found == [], (size, scheme, *found)
            view.close()
