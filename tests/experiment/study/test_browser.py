"""The page in a real browser on a real server, killed in the middle; the results against numbers worked out by hand."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from ...pages.browsing import SCHEMES, SIZES, Opened, fits, problems
from .conftest import FPS

PROGRAM = [sys.executable, "-c", "from nc_refiner.cli.main import run; run()", "ab"]
QUESTIONS = ("consistency", "quality", "texture")
# Looks at the clips as a person does: which one is the red one?
LOOK = """() => ['a', 'b'].map(side => { const c = document.createElement('canvas'); c.width = c.height = 1;
  const g = c.getContext('2d'); g.drawImage(document.getElementById('clip-' + side), 0, 0, 10, 10, 0, 0, 1, 1);
  const [r, , b] = g.getImageData(0, 0, 1, 1).data; return r > b ? 'red' : 'blue'; })"""
TIMES = "() => [...document.querySelectorAll('video')].map(v => [v.currentTime, v.paused || v.seeking])"


class Server:
    """`nc-refiner ab study` as a process of its own."""

    def __init__(self, folder, *options, port=0):
        self.folder, self.options = folder, options
        command = [*PROGRAM, "study", str(folder), "--port", str(port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "comparisons per rater" in self.process.stdout.readline()
        self.url = self.process.stdout.readline().strip()
        self.port = int(re.search(r":(\d+)/", self.url).group(1))

    def end(self, how):
        self.process.send_signal(how)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def expect():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sync_api.expect.set_options(timeout=20_000)
    return sync_api.expect


def enter(page, url, alias, expect):
    page.goto(url)
    page.fill("#alias", alias)
    page.keyboard.press("Enter")
    expect(page.locator("#vote")).to_be_visible()


def look(page):
    """Which of A and B is red, once their first frames are there."""
    for _ in range(200):
        ready = page.evaluate("() => [...document.querySelectorAll('video')].every(v => v.readyState >= 2)")
        if ready:
            return page.evaluate(LOOK)
        time.sleep(0.05)
    raise AssertionError("the clips were not loaded")


def go_on(page, number, expect):
    expect(page.locator("#next")).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Enter")
    if number == 4:
        expect(page.locator("#done")).to_be_visible()
    else:
        expect(page.locator("#place")).to_have_text(f"Comparison {number + 1} of 4")


def steps(page):
    """The largest distance between clips that play, in seconds, over a few turns; and how far they got."""
    gaps, reached = [], 0.0
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        state = page.evaluate(TIMES)
        times = [at for at, resting in state if not resting]
        if len(times) == 3:
            gaps.append(max(times) - min(times))
            reached = max(reached, *times)
        time.sleep(0.02)
    return sorted(gaps), reached


@pytest.mark.slow
def test_two_raters_a_killed_server_and_the_results(folder, browser, expect):
    server = Server(folder)
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    problems, foreign = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: foreign.append(request.url) if server.url not in request.url else None)
    enter(page, server.url, "Ann", expect)
    gaps, reached = steps(page)
    assert len(gaps) > 40 and reached > 0.8
    assert gaps[int(0.98 * len(gaps))] < 2 / FPS
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Play")
    assert all(resting for _, resting in page.evaluate(TIMES))
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Pause")
    sides, lefts = {"ann": [], "bob": []}, 0
    # Ann: red for consistency and quality, always A for texture. The server dies when her third is answered by half.
    for number in range(1, 5):
        seen = look(page)
        sides["ann"].append(seen)
        red = "1" if seen[0] == "red" else "2"
        lefts += 2 * (red == "1") + 1
        # A slip that is corrected before going on: replaced, not counted twice.
        page.keyboard.press("2" if red == "1" else "1")
        page.keyboard.press("ArrowUp")
        page.keyboard.press({"1": "ArrowLeft", "2": "ArrowRight"}[red])
        if number == 3:
            expect(page.locator("#status")).to_have_text("Saved.")
            server.end(signal.SIGKILL)
            page.keyboard.press(red)
            expect(page.locator("#status")).to_have_text("Not saved yet, trying again…")
            server = Server(folder, port=server.port)
            expect(page.locator("#status")).to_have_text("Saved.")
            # The tab is closed; in a new one she is where she was, with what she had answered.
            context = page.context
            page.close()
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(server.url)
            expect(page.locator("#place")).to_have_text("Comparison 3 of 4")
            assert look(page) == seen
            marked = [page.locator(f"input[name={name}]:checked").count() for name in QUESTIONS]
            assert marked == [1, 1, 0]
        else:
            page.keyboard.press(red)
        page.keyboard.press("1")
        go_on(page, number, expect)
    # Bob, from another machine: as Ann, but blue for consistency in his first.
    other = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    enter(other, server.url, "bob", expect)
    for number in range(1, 5):
        seen = look(other)
        sides["bob"].append(seen)
        red, blue = ("1", "2") if seen[0] == "red" else ("2", "1")
        first = blue if number == 1 else red
        for key in (first, red, "1"):
            other.keyboard.press(key)
            lefts += key == "1"
        go_on(other, number, expect)
    for seen in sides.values():
        assert sum(left == "red" for left, _ in seen) == 2 and all({"red", "blue"} == set(two) for two in seen)
    from nc_refiner.experiment.store import open_store
    from nc_refiner.experiment.study.plan import plan
    from nc_refiner.experiment.study.votes import read_study

    store = open_store(folder / "study.db", create=False)
    study = read_study(store)
    store.close()
    for rater, seen in sides.items():
        shown = plan(list(study.items), study.arms, study.seed, rater)
        assert [s.left == "nc_arm" for s in shown] == [left == "red" for left, _ in seen]
    assert server.end(signal.SIGINT) == 0 and problems == [] and foreign == []
    command = [*PROGRAM, "study-results", str(folder), "--control", "sdedit_arm", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    consistency, quality, texture = found["preferences"]
    assert found["votes"] == 24 and found["comparisons_done"] == {"ann": 4, "bob": 4}
    # Ann 4 of 4 and Bob 3 of 4; 4 and 4; always A, where each arm is twice: 2 and 2.
    assert [(p["count"], p["total"]) for p in found["preferences"]] == [(7, 8), (8, 8), (4, 8)]
    assert consistency["p"] == pytest.approx(18 / 256) and consistency["p_holm"] == pytest.approx(36 / 256)
    assert quality["p"] == pytest.approx(2 / 256) and quality["p_holm"] == pytest.approx(6 / 256)
    assert quality["low"] == pytest.approx(0.025**0.125) and texture["p"] == pytest.approx(1)
    assert found["bradley_terry"][0]["strengths"]["nc_arm"] == pytest.approx(0.97296, abs=1e-4)
    # One of four disagrees, seven values of one kind and one of the other: 1 - 7 * 1 / 7.
    assert found["agreement"][0] == {"question": "consistency", "alpha": pytest.approx(0), "agreeing": 0.75}
    assert (found["left"]["count"], found["left"]["total"]) == (lefts, 24)
    assert found["conclusions"][0]["decision"] == "not enough data"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(folder, browser, expect, scheme):
    server = Server(folder, "--study", scheme)
    try:
        phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
        page = browser.new_context(**phone, color_scheme=scheme, reduced_motion="reduce").new_page()
        page.goto(server.url)
        page.locator("#nameless").tap()
        expect(page.locator("#play")).to_have_text("Play")
        assert all(resting for _, resting in page.evaluate(TIMES))
        page.locator("#play").tap()
        expect(page.locator("#play")).to_have_text("Pause")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        sizes = page.evaluate(
            "() => [...document.querySelectorAll('#vote button, #vote label')].map(e => e.getBoundingClientRect())"
            ".map(r => Math.min(r.width, r.height))"
        )
        assert min(sizes) >= 44
        page.locator("#next").tap(force=True)  # playwright takes aria-disabled for disabled
        expect(page.locator("#status")).to_have_text("Please answer all three questions.")
        for name in QUESTIONS:
            page.locator(f"fieldset[data-question={name}] label").last.tap()
        expect(page.locator("#next")).to_have_attribute("aria-disabled", "false")
        page.locator("#next").tap()
        expect(page.locator("#place")).to_have_text("Comparison 2 of 4")
        page.locator("#leave").tap()
        expect(page.locator("#enter")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    finally:
        server.end(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("height", [844, 600])
def test_on_a_phone_the_clips_stay_in_sight_while_answering(folder, browser, expect, height):
    server = Server(folder, "--study", f"sight{height}")
    try:
        page = browser.new_context(viewport={"width": 390, "height": height}, is_mobile=True, has_touch=True).new_page()
        page.goto(server.url)
        page.locator("#nameless").tap()
        look(page)
        for name in QUESTIONS:
            button = page.locator(f"fieldset[data-question={name}] label").last
            button.scroll_into_view_if_needed()
            button.tap()
            expect(page.locator("#status")).to_have_text("Saved.")
            for clip in ("a", "b", "input"):
                box = page.locator(f"#clip-{clip}").bounding_box()
                assert box["y"] >= 0 and box["y"] + box["height"] <= height, (name, clip, box)
                assert box["width"] >= 150
            # Nothing lies over the answer: what is there is the answer itself.
            place = button.bounding_box()
            middle = [place["x"] + place["width"] / 2, place["y"] + place["height"] / 2]
            assert page.evaluate("([x, y]) => document.elementFromPoint(x, y).name", middle) == name
    finally:
        server.end(signal.SIGTERM)


@pytest.mark.slow
def test_it_looks_right_on_desk_and_phone_by_day_and_night(folder, browser, expect):
    server = Server(folder, "--study", "looks")
    try:
        for size in SIZES.values():
            for scheme in SCHEMES:
                view = Opened(browser, server.url, size, color_scheme=scheme, reduced_motion="reduce")
                expect(view.page.locator("#enter")).to_be_visible()
                found = problems(view)
                view.page.locator("#nameless").click()
                look(view.page)
                fits(view)
                found += problems(view)
                assert found == [], (size, scheme, *found)
                assert view.said == []
                view.context.close()
    finally:
        server.end(signal.SIGTERM)
