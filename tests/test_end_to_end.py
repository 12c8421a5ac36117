"""The main job on real clips at real size, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nc_refiner.video import probe

pytestmark = pytest.mark.slow

CLOSER = (("mse", -1), ("mse_low", -1), ("ssim", 1))


def refine(*arguments: object) -> dict:
    command = [sys.executable, "-m", "nc_refiner", "refine", *map(str, arguments), "--compare", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_closer(report: dict) -> None:
    for name, sign in CLOSER:
        assert sign * report["calibrated"][name] > sign * report["sdedit"][name], name
    losses = report["calibrated"]["content_loss"]
    assert len(losses) == 3 and losses == sorted(losses, reverse=True)


def test_demo_keeps_the_content_and_adds_detail(tmp_path):
    # A part of the clip: all of it is minutes of one core.
    report = refine("--demo", tmp_path / "demo.mp4", "--max-frames", 4)
    assert_closer(report)
    calibrated, sdedit, reference = report["calibrated"], report["sdedit"], report["reference"]
    assert calibrated["psnr_to_original"] > sdedit["psnr_to_original"]
    assert calibrated["spatial_frequency"] > reference["spatial_frequency"]
    assert report["evaluations"]["calibrated"]["calibration"] == 3
    for kind in ("output", "sdedit", "side_by_side"):
        assert probe(report["files"][kind]).frames == 4
    for kind in ("sidecar", "receipt", "contact_sheet"):
        assert Path(report["files"][kind]).stat().st_size > 0


@pytest.mark.parametrize(
    "name",
    [
        "vc_0240_reference",
        *(pytest.param(f"{name}_reference", marks=pytest.mark.long) for name in ("vc_lavie0507", "ms_0376", "iter")),
    ],
)
def test_published_references(clips, tmp_path, name):
    source = clips / "published" / f"{name}.mp4"
    report = refine(source, tmp_path / "out.mp4", "--max-frames", 3, "--height", 128, "--num-inference-steps", 15)
    assert_closer(report)


@pytest.mark.long
def test_unseen_clips_come_out_closer_on_nine_of_ten(clips, tmp_path):
    sources = sorted((clips / "generated").glob("*.mp4"))
    won = 0
    for source in sources:
        options = ("--max-frames", 5, "--height", 96, "--num-inference-steps", 12)
        report = refine(source, tmp_path / f"{source.stem}.mp4", *options)
        won += all(sign * report["calibrated"][key] > sign * report["sdedit"][key] for key, sign in CLOSER)
    assert won >= 0.9 * len(sources)
