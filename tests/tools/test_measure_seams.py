"""The seam measurement: it finds a seam that is there, none that is not, and runs end to end on a small file."""

from __future__ import annotations

import measure_seams
import pytest
import torch
from measure_seams import COLUMNS, measure

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.video import FrameReader, write_clip


@pytest.fixture(scope="module")
def moving() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    frames = [
        torch.stack([0.5 + 0.3 * torch.sin(9 * x + t / 4), 0.5 + 0.3 * torch.cos(7 * y + t / 5), x * y])
        for t in range(15)
    ]
    return torch.stack(frames)


def test_a_jump_shows_and_its_absence_too(moving):
    flicker = 0.01 * torch.rand(moving.shape, generator=torch.Generator().manual_seed(0))
    even = measure(moving, moving + flicker, [[7, 8]])
    assert all(value == pytest.approx(1, abs=0.15) for value in even.values())
    jump = moving + flicker
    jump[8:] += 0.1
    found = measure(moving, jump, [[7, 8]])
    for name in COLUMNS[:3] + COLUMNS[4:]:
        assert found[name] > 1.3, name
    assert found["detail"] == pytest.approx(1, abs=0.05)
    # Edits change at transition 7 → 8 alone: mean over two flickering planes of ±0.01/3, plus 0.1.
    assert found["change of the edit"] == pytest.approx(0.1 / float(flicker.diff(dim=0).abs().mean()), rel=0.05)


def test_blur_at_a_seam_shows_as_lost_detail(moving):
    textured = moving + 0.1 * torch.rand(moving.shape, generator=torch.Generator().manual_seed(1))
    blurred = textured.clone()
    blurred[6:9] = torch.nn.functional.avg_pool2d(textured[6:9], 3, 1, 1, count_include_pad=False)
    assert measure(textured, blurred, [[6, 8]])["detail"] < 0.8


def test_only_seams_is_no_measurement(moving):
    with pytest.raises(ValueError, match="elsewhere"):
        measure(moving, moving, [])
    with pytest.raises(ValueError, match="elsewhere"):
        measure(moving, moving, [[0, 14]])


def test_end_to_end_at_tiny_size(moving, tmp_path, capsys):
    source, page = tmp_path / "clip.mp4", tmp_path / "page.md"
    write_clip(VideoClip(moving), source)
    page.write_text("before\n<!-- measured -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    options = ["--frames", "15", "--height", "32", "--window", "6", "--overlap", "3", "--num-inference-steps", "4"]
    code = measure_seams.main(
        [str(source), *options, "--iterations", "1", "--sheets", str(tmp_path), "--write", str(page)]
    )
    assert code == 0, capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("<!-- end -->\nafter\n") and "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| 1 | ")]
    assert [row.split(" | ")[1] for row in rows] == list(measure_seams.METHODS)
    to_one_window = {row.split(" | ")[1]: float(row.split(" | ")[-2]) for row in rows}
    assert to_one_window["latent windows"] < to_one_window["independent"]
    assert (tmp_path / "clip_N1.png").stat().st_size > 0


def test_a_short_clip_is_refused_in_a_line(moving, tmp_path, capsys):
    write_clip(VideoClip(moving), tmp_path / "clip.mp4")
    assert measure_seams.main([str(tmp_path / "clip.mp4")]) == 2
    assert "15 frames; 61 are needed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [pytest.param(0, marks=pytest.mark.long), 3])
def test_seams_of_a_real_clip_are_no_more_visible_than_with_pixel_fades(embedded, clips, iterations):
    with FrameReader(clips / "natural" / "eval" / "05_default_juggle.mp4", max_frames=24, height=48) as reader:
        clip = VideoClip(torch.stack(list(reader)))
    refiner = CalibratedRefiner(embedded, NoiseCalibration(iterations=iterations))
    settings = {"strength": 0.6, "num_inference_steps": 8, "seed": 0, "window": 8}
    ways = {"independent": {"overlap": 0, "max_latents_gib": 0.0}, "pixels": {"max_latents_gib": 0.0}, "latents": {}}
    change = {}
    for name, way in ways.items():
        result = refiner(clip, **settings, **way)
        change[name] = measure(clip.frames, result.clip.frames, result.receipt["seams"])["change of the edit"]
    assert change["latents"] <= change["pixels"] + 0.02 < change["independent"] - 0.02
