"""Side-by-side videos and contact sheets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from nc_refiner.video import SideBySideWriter, VideoError, contact_sheet, probe, read_clip

from .conftest import moving, psnr

ROOT = Path(__file__).parents[2]


def test_panels_stand_side_by_side_under_their_labels(tmp_path: Path) -> None:
    left, right = moving(4, 64, 96), 1 - moving(4, 64, 96)
    with SideBySideWriter(tmp_path / "s.mp4", ["reference", "calibrated"], 8) as writer:
        writer.write(left[0], right[0])
        writer.write(left[1:], right[1:])
    assert writer.notes == []
    frames = read_clip(tmp_path / "s.mp4").frames
    assert frames.shape[0] == 4 and frames.shape[3] >= 2 * 96
    strip = frames.shape[2] - 64
    assert strip >= 20
    assert psnr(frames[:, :, strip:, :96], left) > 28
    assert psnr(frames[:, :, strip:, -96:], right) > 28
    for label in (frames[:, :, :strip, :96], frames[:, :, :strip, -96:]):
        assert float(label.max()) > 0.7 and float(label.median()) < 0.2, "light letters on a dark strip"


def test_smaller_panels_are_brought_to_the_largest(tmp_path: Path) -> None:
    with SideBySideWriter(tmp_path / "s.mp4", ["small", "large"], 8) as writer:
        writer.write(moving(2, 32, 48), moving(2, 64, 96))
    assert len(writer.notes) == 1 and "small: resized from 48x32 to 96x64" in writer.notes[0]
    info = probe(tmp_path / "s.mp4")
    frames = read_clip(tmp_path / "s.mp4").frames
    assert info.frames == 2 and psnr(frames[:, :, -64:, :96], frames[:, :, -64:, -96:]) > 28


def test_wrong_panels_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    one = moving(1, 64, 96)
    for panels, words in (
        ((one,), "one panel per label"),
        ((one, moving(2, 64, 96)), "equally many"),
        ((one, torch.full((1, 3, 64, 96), float("nan"))), "NaN"),
    ):
        with pytest.raises(VideoError, match=words), SideBySideWriter(tmp_path / "s.mp4", ["a", "b"]) as writer:
            writer.write(*panels)
    with pytest.raises(VideoError, match="changed"), SideBySideWriter(tmp_path / "s.mp4", ["a", "b"]) as writer:
        writer.write(one, one)
        writer.write(one, moving(1, 32, 32))
    with pytest.raises(VideoError, match="labels"):
        SideBySideWriter(tmp_path / "s.mp4", [])
    with pytest.raises(VideoError, match="labels"):
        SideBySideWriter(tmp_path / "s.mp4", "ab")
    with pytest.raises(VideoError, match=r"use \.mp4"):
        SideBySideWriter(tmp_path / "s.png", ["a"])
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_shows_every_clip_and_the_detail(tmp_path: Path) -> None:
    detailed = torch.full((5, 3, 128, 192), 0.5)
    noise = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    detailed[:, :, 80:112, 140:172] = noise
    path = tmp_path / "sheet.png"
    contact_sheet({"flat": torch.full((3, 3, 64, 96), 0.5), "detailed": detailed}, path, frames=3)
    sheet = read_clip(path).frames[0]
    height = (sheet.shape[1] - 4) // 2
    assert sheet.shape[2] == 150 + 3 * (324 + 4) + 4 + height
    assert float(sheet[:, :height, :150].max()) == 1 and float(sheet[:, height + 4 :, :150].max()) == 1
    zoom = sheet[:, height + 4 :, -height:]
    assert float(zoom.std()) > 0.2, "the crop found the only detail there is"
    assert float(sheet[:, :height, -height:].std()) < 1e-3
    wanted = torch.nn.functional.interpolate(noise[2:3], size=(height, height), mode="nearest")[0]
    assert psnr(zoom, wanted) > 30
    again = path.read_bytes()
    contact_sheet({"flat": torch.full((3, 3, 64, 96), 0.5), "detailed": detailed}, path, frames=3)
    assert path.read_bytes() == again and list(tmp_path.iterdir()) == [path]


def test_contact_sheet_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    for clips, words in (({}, "at least one"), ({"a": torch.zeros(0, 3, 64, 64)}, "at least one frame")):
        with pytest.raises(VideoError, match=words):
            contact_sheet(clips, tmp_path / "s.png")
    with pytest.raises(VideoError, match="frames is 0"):
        contact_sheet({"a": moving(2, 64, 64)}, tmp_path / "s.png", frames=0)
    with pytest.raises(VideoError, match=r"use \.png"):
        contact_sheet({"a": moving(2, 64, 64)}, tmp_path / "s.jpg")
    with pytest.raises(VideoError, match="NaN"):
        contact_sheet({"a": torch.full((2, 3, 64, 64), float("nan"))}, tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []


def test_long_labels_fit(tmp_path: Path) -> None:
    contact_sheet({"a label far longer than its place " * 4: moving(1, 64, 64)}, tmp_path / "s.png", frames=1)
    with Image.open(tmp_path / "s.png") as image:
        edge = [image.getpixel((x, y)) for x in (0, 149) for y in range(image.height)]
    assert max(max(pixel) for pixel in edge) < 40, "letters touch the edge of their strip"


def test_importing_the_room_loads_no_codec() -> None:
    script = "import sys, nc_refiner.video as v; [getattr(v, n) for n in v.__all__]; " + (
        "sys.exit(len({'av', 'decord', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
