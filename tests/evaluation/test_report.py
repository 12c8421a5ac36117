"""The HTML report: what it holds, what it escapes, and how it behaves in a real browser."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nc_refiner.evaluation.measure import measure
from nc_refiner.evaluation.plots import plot
from nc_refiner.evaluation.report import Report

from ..pages.browsing import Opened, fits, looks_right
from ..video.conftest import make_video
from .conftest import noisy, textured

pytest.importorskip("jinja2", reason="the evaluation extra is not installed")

FRAMES, CHANGED = 12, 8
NASTY = 'it\'s <b>&amp; "odd" </script>'


def written(folder: Path, limit_bytes: int = 10**7) -> tuple[Path, Report]:
    """A report on two outputs; the first changes in one corner from frame 9 on, the second everywhere a little."""
    reference = textured(FRAMES)
    corner = reference.clone()
    corner[CHANGED:, :, 32:, 64:] = 1 - corner[CHANGED:, :, 32:, 64:]
    files = {"reference.mp4": reference, "corner.mp4": corner, "noise.mp4": noisy(reference, 0.3)}
    for name, frames in files.items():
        make_video(folder / name, frames)
    with Report(limit_bytes) as report:
        for name in ("corner.mp4", "noise.mp4"):
            report.start(folder / "reference.mp4")
            names = ("mse", "mse_low", "psnr", "ssim", "spatial_frequency")
            report.add(measure(folder / "reference.mp4", folder / name, names, watcher=report.watch))
        path = folder / "report.html"
        path.write_text(report.html(), encoding="utf-8")
    return path, report


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report"))[0]


@pytest.fixture
def opened(browser: Any, page_file: Path):
    view = Opened(browser, page_file)
    yield view
    view.close()


def test_it_opens_from_disk_without_a_word_or_a_request(opened: Opened):
    assert opened.frames_shown() == [0, 0]
    assert (
        opened.value("[...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight])")
        == [[96, 64]] * 2
    )
    assert opened.page.locator("tbody tr").count() == 5
    assert opened.page.locator("svg.plot").count() == 5
    assert len([url for url in opened.asked if url.startswith("file:")]) == 1


def test_the_policy_lets_nothing_out(opened: Opened):
    tried = opened.value(
        "new Promise(done => { const seen = []; document.addEventListener('securitypolicyviolation', "
        "e => { seen.push(e.effectiveDirective); if (seen.length === 2) done(seen); });"
        "fetch('http://127.0.0.1:9/').catch(() => {}); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; })"
    )
    assert sorted(tried) == ["connect-src", "img-src"]
    # What was refused here was asked for by this test alone.
    assert len(opened.said) >= 2 and all(
        "Content Security Policy" in line or "127.0.0.1" in line for line in opened.said
    )
    opened.said.clear()
    opened.asked.clear()


def test_the_wipe_follows_slider_keys_and_pointer(opened: Opened):
    edge = "document.querySelector('.edge').getBoundingClientRect().left + 1"
    stage = opened.page.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    slider = opened.page.locator(".wipe-position")
    assert opened.value(edge) == pytest.approx(box["x"] + box["width"] / 2, abs=1)
    slider.fill("25")
    assert opened.value(edge) == pytest.approx(box["x"] + box["width"] / 4, abs=1)
    assert "25%" in opened.value("getComputedStyle(document.querySelector('.after')).clipPath")
    slider.focus()
    opened.page.keyboard.press("End")
    assert opened.value(edge) == pytest.approx(box["x"] + box["width"], abs=1)
    opened.page.mouse.move(box["x"] + 10, box["y"] + 20)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 20)
    opened.page.mouse.up()
    assert opened.value(edge) == pytest.approx(box["x"] + box["width"] * 0.7, abs=2)


def corner_shown(opened: Opened) -> torch.Tensor:
    """Mean colour `(3,)` of the middle of the changed corner, as the screen shows it."""
    picture = Image.open(io.BytesIO(opened.page.locator(".stage").screenshot())).convert("RGB")
    width, height = picture.size
    patch = picture.crop((int(width * 0.75), int(height * 0.6), int(width * 0.95), int(height * 0.9)))
    return torch.from_numpy(np.array(patch)).double().mean(dim=(0, 1)) / 255


def test_what_the_wipe_shows_is_the_reference_and_the_output(opened: Opened):
    opened.page.locator(".time").fill(str(FRAMES - 1))
    reference = textured(FRAMES)[-1, :, 38:58, 72:91].double().mean(dim=(1, 2))
    for percent, expected in (("0", 1 - reference), ("100", reference)):
        opened.page.locator(".wipe-position").fill(percent)
        opened.frames_shown()
        opened.page.wait_for_timeout(200)
        assert corner_shown(opened).tolist() == pytest.approx(expected.tolist(), abs=0.04)


def test_the_players_play_together_and_stop(opened: Opened):
    opened.frames_shown()
    play = opened.page.locator(".play")
    play.click()
    assert play.inner_text() == "Pause" and play.get_attribute("aria-pressed") == "true"
    opened.until("[...document.querySelectorAll('video')].every(v => v.currentTime > 0.4)")
    times = opened.value("[...document.querySelectorAll('video')].map(v => v.currentTime)")
    assert abs(times[0] - times[1]) < 0.2
    play.click()
    first, second = opened.frames_shown()
    assert first == second == int(opened.page.locator(".time").input_value())
    opened.page.locator(".forward").click()
    assert opened.frames_shown() == [min(first + 1, FRAMES - 1)] * 2
    opened.page.locator(".back").click()
    assert opened.page.locator(".clock").inner_text().startswith(f"{min(first + 1, FRAMES - 1)}/{FRAMES}")


def test_the_drift_map_seeks_the_players(opened: Opened):
    opened.frames_shown()
    strip = opened.page.locator(".strip").first
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * (CHANGED + 0.5) / FRAMES, "y": 10})
    assert opened.frames_shown() == [CHANGED] * 2
    assert strip.get_attribute("aria-valuenow") == str(CHANGED + 1)
    caption = opened.page.locator(".map-caption").inner_text()
    assert f"Frame {CHANGED + 1} of corner.mp4" in caption and "most at the bottom right" in caption
    opened.page.locator(".time").fill("0")
    # A block of the changed corner knows its worst moment; so it does by keyboard.
    block = opened.page.locator(".map")
    assert not block.is_visible()
    opened.page.locator(".layout label").nth(2).click()
    area, stage = block.bounding_box(), opened.page.locator(".stage").bounding_box()
    assert area == stage, "the map lies over the frame"
    block.click(position={"x": area["width"] * 0.9, "y": area["height"] * 0.9})
    assert opened.frames_shown()[0] >= CHANGED
    opened.page.locator(".time").fill("0")
    block.focus()
    opened.page.keyboard.press("ArrowUp")
    assert re.search(r"row (\d+), column (\d+)", block.get_attribute("aria-label"))
    assert opened.page.locator(".cell").is_visible()
    opened.page.keyboard.press("Enter")
    assert opened.frames_shown()[0] >= CHANGED
    opened.page.locator(".moments button").first.click()
    assert opened.frames_shown()[0] >= CHANGED
    strip.focus()
    opened.page.keyboard.press("Home")
    assert opened.frames_shown() == [0, 0]
    opened.page.keyboard.press("ArrowRight")
    assert opened.frames_shown() == [1, 1]
    assert opened.value("document.querySelector('.plot .cursor').getAttribute('x1')") != "52"


def test_another_output_and_side_by_side(opened: Opened):
    opened.frames_shown()
    first = opened.value("document.querySelectorAll('video')[1].src")
    opened.page.locator(".outputs label").nth(1).click()
    opened.frames_shown()
    assert opened.value("document.querySelectorAll('video')[1].src") != first
    assert opened.page.locator(".after .tag").inner_text() == "noise.mp4"
    opened.page.locator(".layout label").nth(1).click()
    left, right = (opened.page.locator(f".{side} video").bounding_box() for side in ("before", "after"))
    assert right["x"] >= left["x"] + left["width"] and left["y"] == right["y"]
    assert not opened.page.locator(".wipe-slider").is_visible()
    # Two outputs against each other, without the reference.
    opened.page.locator(".lefts label").nth(1).click()
    assert opened.page.locator(".before .tag").inner_text() == "corner.mp4"
    opened.frames_shown()


def test_everything_is_reached_by_keyboard(opened: Opened):
    seen = set()
    for _ in range(40):
        opened.page.keyboard.press("Tab")
        seen.add(opened.value("document.activeElement.className || document.activeElement.name"))
    wanted = {
        "scroll",
        "group-0-player-outputs",
        "group-0-player-lefts",
        "group-0-player-layout",
        "wipe-position",
        "play",
        "back",
        "forward",
        "time",
    }
    assert wanted | {"strip"} <= seen


def test_on_a_phone_both_outputs_are_in_reach(browser: Any, page_file: Path):
    view = Opened(browser, page_file, (390, 844), has_touch=True, is_mobile=True)
    view.frames_shown()
    fits(view)
    # The numbers of the last output are seen without scrolling sideways, and its clip is one touch away.
    last = view.page.locator(".numbers tbody tr").first.locator("td").last.bounding_box()
    assert last["x"] + last["width"] <= 390
    view.page.locator(".outputs label").nth(1).tap()
    assert view.page.locator(".after .tag").inner_text() == "noise.mp4"
    view.frames_shown()
    view.close()


@pytest.mark.slow
def test_it_looks_right_on_desk_and_phone_by_day_and_night(browser: Any, page_file: Path):
    looks_right(browser, page_file, "[...document.querySelectorAll('video')].every(v => v.readyState >= 2)")


def test_space_and_signs_drive_the_player(opened: Opened):
    opened.frames_shown()
    opened.page.locator(".time").focus()
    for key, frame in ((".", 1), (".", 2), (",", 1)):
        opened.page.keyboard.press(key)
        assert opened.frames_shown() == [frame] * 2
    opened.page.keyboard.press("]")
    assert opened.page.locator(".wipe-position").input_value() == "55"
    opened.page.keyboard.press("Space")
    assert opened.page.locator(".play").inner_text() == "Pause"
    opened.page.keyboard.press("Space")
    assert opened.page.locator(".play").inner_text() == "Play"


def test_one_scale_of_colour_is_explained(opened: Opened):
    legend = opened.page.locator(".scale").inner_text()
    assert "how much the picture changed here, against the input" in legend
    top = float(re.search(r"by (\d+) of 255 levels", legend).group(1))
    assert float(re.search(r"by ([\d.]+)\n", legend).group(1)) == pytest.approx(top / 4, rel=0.05)


def test_the_summary_and_the_winners(opened: Opened):
    first = opened.page.locator(".verdict p").inner_text()
    assert re.fullmatch(r"(corner|noise)\.mp4 is best on \d of 5 measures; (corner|noise)\.mp4 on \d\.", first)
    won = opened.page.locator(".numbers .win").count()
    counts = [int(number) for number in re.findall(r"on (\d)", first)]
    assert sum(counts) == won == 5 and counts[0] > counts[1]
    said = opened.page.locator(".verdict li").all_inner_texts()
    assert any(line.startswith("noise.mp4: ") and "more detail than the input" in line for line in said)


def test_without_h264_the_rest_works(browser: Any, page_file: Path):
    view = Opened(browser, page_file)
    view.frames_shown()
    view.page.evaluate("document.querySelectorAll('video').forEach(v => { v.src = 'blob:nothing'; })")
    view.page.locator(".missing").wait_for(state="visible")
    assert "cannot play H.264" in view.page.locator(".missing").inner_text()
    view.page.locator(".strip").first.click(position={"x": 5, "y": 5})
    assert view.page.locator(".clock").inner_text().startswith("1/")
    view.context.close()


def test_beyond_the_limit_videos_are_left_out_in_words(tmp_path: Path, browser: Any):
    path, report = written(tmp_path, limit_bytes=1000)
    assert len(report.notes) == 3 and "would pass the limit of 0.001 MB; raise --html-megabytes" in report.notes[0]
    assert path.stat().st_size < 100_000
    view = Opened(browser, path)
    assert "not in this file, which would have been larger than allowed" in view.page.locator(".missing").inner_text()
    assert not view.page.locator(".stage").is_visible()
    view.page.locator(".strip").first.click(position={"x": 300, "y": 5})
    assert not view.page.locator(".clock").inner_text().startswith("1/")
    assert view.said == []
    view.context.close()


def test_several_clips_lead_with_their_means_and_link_the_worst(tmp_path: Path, browser: Any):
    from nc_refiner.cli.main import main

    for number, amount in enumerate((0.1, 0.4, 0.2)):
        frames = textured(3)
        for folder, changed in (("ref", frames), ("near", noisy(frames, amount / 4)), ("far", noisy(frames, amount))):
            (tmp_path / folder).mkdir(exist_ok=True)
            make_video(tmp_path / folder / f"clip{number}.mp4", changed)
    folders = [str(tmp_path / name) for name in ("ref", "near", "far")]
    page = tmp_path / "all.html"
    assert main(["evaluate", *folders, "--metrics", "mse,ssim", "--html", str(page)]) == 0
    view = Opened(browser, page, (390, 844))
    headline = view.page.locator(".verdict p").first.inner_text()
    assert headline.startswith("On average over 3 clips ") and "near is best on 2 of 2 measures" in headline
    assert view.page.locator(".means .win").count() == 2
    fits(view)
    cell = view.page.locator(".means tbody td").nth(1).bounding_box()
    assert cell["x"] + cell["width"] <= 390, "the second folder is in sight"
    # The worst clip is the one with the most noise; its link leads to its player.
    worst = view.page.locator(".verdict li").last.locator("a").first
    assert worst.inner_text() == "clip1.mp4"
    worst.click()
    view.until("location.hash !== ''")
    place = view.page.locator(view.value("location.hash"))
    assert place.locator("h2").inner_text() == "clip1.mp4" and place.locator(".player").count() == 1
    view.frames_shown(f"{view.value('location.hash')} .player")
    view.close()


def test_names_are_escaped(tmp_path: Path, browser: Any):
    for name, frames in ((f"{NASTY.replace('/', '∕')}.mp4", textured(2)), ("b.mp4", noisy(textured(2), 0.2))):
        make_video(tmp_path / name, frames)
    nasty = tmp_path / f"{NASTY.replace('/', '∕')}.mp4"
    with Report() as report:
        for output in (nasty, tmp_path / "b.mp4"):
            report.start(nasty)
            report.add(measure(nasty, output, ("mse",), watcher=report.watch))
        page = report.html()
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    assert "<b>" not in page
    view = Opened(browser, tmp_path / "report.html")
    assert view.page.locator("h2").first.inner_text() == nasty.name
    view.frames_shown()
    assert view.page.locator(".after .tag").inner_text() == nasty.name
    assert view.said == []
    view.context.close()


def test_the_page_carries_everything_itself(page_file: Path):
    page = page_file.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:,|#)", page)
    assert "url(" not in page and "@import" not in page
    # One copy of the reference serves both outputs.
    assert len(re.findall(r'<script type="text/plain" id="video-\d+">', page)) == 3


def test_plots_of_short_and_long_and_empty_series():
    assert "<circle" in plot("mse", {"a": [0.5]})
    assert plot("mse", {"a": [None, None]}) == ""
    long = plot("ssim", {"a": [0.5, 0.6] * 5000})
    assert long.count(",") < 1000
    flat = plot("mse", {"a": [0.0, 0.0]})
    assert "nan" not in flat and "polyline" in flat


def test_a_report_of_nothing_is_refused(tmp_path: Path):
    with Report() as report, pytest.raises(ValueError, match="no pair"):
        report.html()
    path = make_video(tmp_path / "a.mp4", textured(2))
    with Report() as report, pytest.raises(ValueError, match="watched"):
        report.add(measure(path, path, ("mse",)))


def test_a_still_can_be_reported(tmp_path: Path):
    from nc_refiner.clip import VideoClip
    from nc_refiner.video import write_clip

    for name, value in (("a.png", 0.4), ("b.png", 0.5)):
        write_clip(VideoClip(torch.full((1, 3, 32, 48), value)), tmp_path / name)
    with Report() as report:
        report.start(tmp_path / "a.png")
        report.add(measure(tmp_path / "a.png", tmp_path / "b.png", watcher=report.watch))
        assert "video-1" in report.html()
