"""A sweep's page in a real browser: heat maps, the front, and a player for each point."""

from __future__ import annotations

from pathlib import Path

import pytest

from nc_refiner.experiment.reports.sweep_data import Point, front_of
from nc_refiner.experiment.reports.sweep_page import sweep_page

from ...pages.browsing import Opened, looks_right

pytest.importorskip("jinja2", reason="the experiment extra is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the experiment extra is not installed")


def point(near: float, detail: float, refiner: str = "r") -> Point:
    label = f"{near} {detail}"
    return Point(refiner, 0.5, label, "nc", 1, 1.0, {"mse_low": near, "spatial_frequency": detail}, {})


def test_the_front_is_what_no_other_beats():
    points = [point(1, 1), point(2, 3), point(3, 2), point(2, 3), point(4, 4), point(0.5, 0.5, "other"), point(1, 0.5)]
    front = front_of(points, ("mse_low", "spatial_frequency"))
    assert [p.label for p in front] == ["0.5 0.5", "1 1", "2 3", "2 3", "4 4"]


@pytest.fixture
def opened(browser, sweep_folder: Path):
    view = Opened(browser, sweep_folder / "report.html", (1440, 900))
    yield view
    view.close()


def test_every_setting_has_a_tile_and_a_point(opened: Opened):
    # 2 strengths × (SDEdit + 2 N × 2 ν), for each measure that is shown, one at a time.
    tiles = opened.page.locator(".grid-of:not([hidden]) [data-point]")
    assert tiles.count() == 10
    assert opened.page.locator(".grid-of").count() == 3
    # The input stands in both pictures.
    assert opened.page.locator(".scatter [data-point]").count() == 12
    values = [float(tile.inner_text()) for tile in tiles.all()]
    levels = [int(tile.get_attribute("class")[1:]) for tile in tiles.all()]
    assert levels[values.index(min(values))] == 9 and levels[values.index(max(values))] == 0, "darker is better"
    opened.page.locator(".metric label").nth(2).click()
    shown = opened.page.locator(".grid-of:not([hidden])")
    assert shown.count() == 1 and shown.get_attribute("data-metric") == "spatial_frequency"


def test_each_point_has_its_player(opened: Opened):
    opened.frames_shown("#sweep-player")
    numbers = sorted({one.get_attribute("data-point") for one in opened.page.locator("[data-point]").all()}, key=int)
    assert len(numbers) == 11
    seen = set()
    for number in numbers:
        opened.page.locator(f".scatter [data-point='{number}']").first.focus()
        opened.page.keyboard.press("Enter")
        assert opened.page.locator(f"[data-point='{number}'][aria-pressed=true]").count() >= 1
        opened.frames_shown("#sweep-player")
        assert not opened.page.locator("#sweep-player .missing").is_visible()
        seen.add(opened.page.locator("#sweep-player .after video").evaluate("v => v.src"))
    assert len(seen) == 11
    assert opened.page.locator("#sweep-player .before .tag").inner_text().startswith("SDEdit")
    opened.page.locator(".against label").nth(1).click()
    assert opened.page.locator("#sweep-player .before .tag").inner_text() == "input"
    before = opened.page.locator("#sweep-player .after video").evaluate("v => v.src")
    opened.page.locator(".clip label").nth(1).click()
    opened.frames_shown("#sweep-player")
    assert opened.page.locator("#sweep-player .after video").evaluate("v => v.src") != before
    opened.page.locator(".grid-of:not([hidden]) [data-point]").last.click()
    opened.frames_shown("#sweep-player")


def test_few_clips_decide_nothing(opened: Opened):
    first = opened.page.locator(".verdict p").inner_text()
    assert first == "Not enough clips to prefer a setting: 2 clips; at least 8 are needed."
    lines = opened.page.locator(".verdict li").all_inner_texts()
    assert (
        len(lines) == 3 and lines[0].startswith("Strength 0.4: NC, N = ") and "stays nearest to the input" in lines[0]
    )


def test_without_kept_clips_or_detail_it_says_what_to_do(sweep_folder: Path, browser, tmp_path: Path):
    rows = pq.read_table(sweep_folder / "table.parquet").to_pylist()
    bare = [{k: v for k, v in row.items() if k not in ("video", "spatial_frequency") and v is not None} for row in rows]
    bare = [{**{"seed": None, "strength": None}, **row} for row in bare]
    (tmp_path / "bare.html").write_text(sweep_page(bare, "Sweep bare", tmp_path), encoding="utf-8")
    view = Opened(browser, tmp_path / "bare.html")
    text = view.page.locator("main").inner_text()
    assert "keep_clips: first_seed" in text and "it needs mse_low" in text
    view.page.locator(".grid-of:not([hidden]) [data-point]").first.click()
    view.close()


def test_videos_over_the_limit_are_named(sweep_folder: Path, browser, tmp_path: Path):
    rows = [
        {k: v for k, v in row.items() if v is not None or k in ("seed", "strength")}
        for row in pq.read_table(sweep_folder / "table.parquet").to_pylist()
    ]
    first = (sweep_folder / rows[0]["video"]).stat().st_size
    page = sweep_page(rows, "Sweep small", sweep_folder, limit_bytes=2 * first)
    assert "would pass the limit" in page
    (tmp_path / "small.html").write_text(page, encoding="utf-8")
    view = Opened(browser, tmp_path / "small.html")
    view.page.locator(".grid-of:not([hidden]) [data-point]").last.click()
    assert "is in this file" in view.page.locator(".chosen").inner_text()
    view.close()


def test_a_kept_clip_that_is_gone_is_made_again(sweep_folder: Path):
    kept = sorted((sweep_folder / "clips").rglob("*.mp4"))
    assert len(kept) == 2 * 11
    before = kept[3].read_bytes()
    kept[3].unlink()
    from .conftest import ran

    ran("sweep", sweep_folder.parent / "small.yaml", "--output", sweep_folder)
    assert kept[3].read_bytes() == before


@pytest.mark.slow
def test_it_looks_right_on_desk_and_phone_by_day_and_night(browser, sweep_folder: Path):
    looks_right(browser, sweep_folder / "report.html")
