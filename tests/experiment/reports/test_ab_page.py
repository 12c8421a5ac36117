"""The report of an A/B test in a real browser: what stands first, what is drawn, what plays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nc_refiner.experiment.offline.analyze import Overrides, analyze_folder
from nc_refiner.experiment.reports.html import write_report
from nc_refiner.experiment.reports.words import conclude

from ...pages.browsing import Opened, fits, looks_right

pytest.importorskip("jinja2", reason="the experiment extra is not installed")


@pytest.fixture(scope="module")
def page(experiment_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    analysis, results = analyze_folder(experiment_folder)
    path = tmp_path_factory.mktemp("page") / "ab.html"
    write_report(analysis, path, results)
    return path


@pytest.fixture
def opened(browser, page: Path):
    view = Opened(browser, page, (1440, 900))
    yield view
    view.close()


def test_the_verdict_stands_first_and_says_how_many_clips(opened: Opened, experiment_folder: Path):
    analysis, _ = analyze_folder(experiment_folder)
    cards = opened.page.locator(".verdict")
    headlines = [card.locator("p").first.inner_text() for card in cards.all()]
    assert sorted(headlines) == sorted(conclusion.headline for conclusion in conclude(analysis))
    assert all("9 clips" in card.locator("p").nth(1).inner_text() for card in cards.all())
    box = cards.first.bounding_box()
    assert box["y"] + box["height"] < 450, "seen without scrolling"
    # The better arm comes first.
    first = analysis.ranking.standings[0].arm
    assert first in cards.first.get_attribute("aria-label") or first == "sdedit"


def test_every_interval_is_seen_and_the_axis_is_named_only_where_it_has_a_better_end(opened: Opened):
    rows = opened.page.locator(".forest tbody tr")
    # Two arms: three directed metrics and one that is not; three pairs of arms; two folders for each arm.
    assert rows.count() == 2 * 4 + 3 + 2 * 2
    for row in rows.all():
        bar = row.locator(".bar")
        if bar.count():
            assert bar.bounding_box()["width"] > 12
            caps = [cap.bounding_box() for cap in row.locator(".cap").all()]
            dot, picture = row.locator(".dot").bounding_box(), row.locator(".picture").bounding_box()
            assert all(picture["x"] <= cap["x"] <= picture["x"] + picture["width"] for cap in [*caps, dot])
    heads = {
        table.get_attribute("aria-label"): table.locator(".ends").inner_text()
        for table in opened.page.locator(".forest").all()
    }
    assert "worse" in heads["two: better or worse"] and "worse" not in heads["two: changed"]
    assert "less" in heads["two: changed"] and "more" in heads["two: changed"]


def test_a_lower_error_is_drawn_to_the_right(opened: Opened, experiment_folder: Path):
    analysis, _ = analyze_folder(experiment_folder)
    mse = analysis.primary("two")
    row = opened.page.locator('[aria-label="two: better or worse"] tbody tr').first
    assert row.locator("th").inner_text() == mse.metric.title
    zero, dot = row.locator(".zero").bounding_box(), row.locator(".dot").bounding_box()
    assert (dot["x"] + dot["width"] / 2 > zero["x"]) == (mse.difference < 0)


def test_nothing_is_cut_off_at_the_right(browser, page: Path):
    for size in ((1440, 900), (390, 844)):
        view = Opened(browser, page, size)
        for summary in view.page.locator("summary").all():
            if not summary.evaluate("s => s.parentElement.open"):
                summary.click()
        fits(view)
        says = view.page.locator(".numbers td.mark").first.bounding_box()
        assert says["x"] + says["width"] <= size[0], "the verdict column is in sight"
        view.close()


def test_the_clips_play_in_step_with_our_own_controls(opened: Opened):
    part = opened.page.locator(".examples").first
    part.scroll_into_view_if_needed()
    assert opened.frames_shown(".examples .player") == [0, 0]
    assert opened.page.locator("video[controls]").count() == 0
    before, after = (part.locator(f".{side} .tag").inner_text() for side in ("before", "after"))
    assert before == "sdedit" and after in ("one", "two")
    part.locator(".forward").click()
    assert opened.frames_shown(".examples .player") == [1, 1]
    # The wipe, by keyboard.
    part.locator(".wipe-position").focus()
    opened.page.keyboard.press("Home")
    assert "0%" in part.locator(".after").evaluate("e => getComputedStyle(e).clipPath").split()[-1]
    # Another clip, and the input on the left.
    source = part.locator(".before video").evaluate("v => v.src")
    buttons = part.locator("[data-set]")
    assert buttons.count() >= 2 and buttons.first.get_attribute("aria-pressed") == "true"
    buttons.last.focus()
    opened.page.keyboard.press("Enter")
    assert buttons.last.get_attribute("aria-pressed") == "true"
    assert part.locator(".before video").evaluate("v => v.src") != source
    assert part.locator(".chosen").inner_text().startswith(buttons.last.inner_text().split(" (")[0])
    part.locator(".against label").nth(1).click()
    assert part.locator(".before .tag").inner_text().startswith("input")
    part.locator(".play").click()
    videos = "[...document.querySelectorAll('.examples .player')[0].querySelectorAll('video')]"
    opened.until(f"{videos}.every(v => v.currentTime > 0.2 && !v.paused)")
    gaps = [abs(a - b) for a, b in (opened.value(f"{videos}.map(v => v.currentTime)") for _ in range(10))]
    assert sorted(gaps)[5] < 1.5 / 8
    part.locator(".play").click()


def test_segments_and_ranking_are_there(opened: Opened):
    body = opened.page.locator("body").inner_text()
    assert "By folder" in body and re.search(r"\bday\b", body) and re.search(r"\bnight\b", body)
    assert "All arms against each other" in body and "1. " in opened.page.locator("tbody th").first.inner_text()
    assert "too few to say anything, 4 clips" in body


def test_too_few_clips_say_so_first(experiment_folder: Path, browser, tmp_path: Path):
    # Units 0 to 3 alone, as a run that was stopped leaves them.
    from nc_refiner.experiment.offline.results import Results, read_results
    from nc_refiner.experiment.statistics.analysis import Options, analyze

    found = read_results(experiment_folder)
    some = {key: record for key, record in found.records.items() if key[0] in list(found.units)[:4]}
    results = Results(found.folder, found.manifest, some)
    analysis = analyze(results.observations(), Options("sdedit", "mse", unit="clip"))
    write_report(analysis, tmp_path / "few.html", results)
    view = Opened(browser, tmp_path / "few.html")
    assert view.page.locator(".verdict p").first.inner_text().startswith("Not enough clips: 4 clips; at least 8")
    assert "Prefer" not in view.page.locator("body").inner_text()
    view.close()


def test_words_are_for_people(page: Path, experiment_folder: Path, tmp_path: Path):
    analysis, results = analyze_folder(experiment_folder, Overrides(guardrails={"evaluations": "1.5x", "mse": 0.0}))
    write_report(analysis, tmp_path / "more.html", results)
    for path in (page, tmp_path / "more.html"):
        text = re.sub(r"<(style|script)[\s\S]*?</\1>", "", path.read_text(encoding="utf-8"))
        text = re.sub(r"<[^>]+>", " ", text)
        assert not re.search(r"\b1 (frames|clips|units|measures)\b|interval of the excess|e-0\d|\bnan\b|\binf\b", text)


@pytest.mark.slow
def test_it_looks_right_on_desk_and_phone_by_day_and_night(browser, page: Path):
    looks_right(browser, page)
