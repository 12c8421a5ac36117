"""Writing: what arrives, what is left behind when it fails, and that the bytes repeat."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from nc_refiner.clip import VideoClip
from nc_refiner.video import FrameWriter, VideoError, probe, read_clip, write_clip

from .conftest import moving, psnr

ROOT = Path(__file__).parents[2]


def test_a_clip_survives_the_trip(tmp_path: Path, global_rng_untouched: None) -> None:
    made = moving(10, 64, 96)
    clip = VideoClip(made, fps=30000 / 1001, prompt="ein Kamel, 駱駝", seed=11, history=("base", "refined"))
    assert write_clip(clip, tmp_path / "out.mp4") == []
    back = read_clip(tmp_path / "out.mp4")
    assert (back.fps, back.prompt, back.seed, back.history) == (clip.fps, clip.prompt, clip.seed, clip.history)
    assert psnr(back.frames, made) > 33
    assert psnr(read_clip(tmp_path / "out.mp4", exact_colour=True).frames, made) > 42
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["seed"] == 11
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.mp4"]


def test_what_is_encoded_is_what_is_tagged(tmp_path: Path) -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    frames = colours[:, :, None, None].expand(-1, -1, 64, 64)
    with FrameWriter(tmp_path / "c.mp4", Fraction(24000, 1001), crf=1) as writer:
        writer.write(frames)
    with av.open(str(tmp_path / "c.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (context.colorspace, context.color_range) == (1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert stream.average_rate == Fraction(24000, 1001) and stream.frames == 5
    back = read_clip(tmp_path / "c.mp4", exact_colour=True).frames
    assert float((back - frames).abs().max()) < 4 / 255, "pure colours move if matrix or range do not match the tag"


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    torch_noise = torch.rand(8, 3, 120, 160, generator=torch.Generator().manual_seed(3))
    frames = (moving(8, 120, 160) * 0.8 + torch_noise * 0.2).clamp(0, 1)
    contents = []
    for number in range(4):
        with FrameWriter(tmp_path / f"{number}.mp4", 8) as writer:
            writer.write(frames) if number % 2 else [writer.write(frame) for frame in frames]
        contents.append((tmp_path / f"{number}.mp4").read_bytes())
    assert len(set(contents)) == 1 and len(contents[0]) > 10_000


def test_real_content_gives_the_same_bytes(tmp_path: Path, real) -> None:
    """x264's assembly for wide vectors does not repeat itself on content like this unless it is told to."""
    clip = read_clip(real("generated/text_to_wan.mp4"), max_frames=8)
    for number in range(3):
        write_clip(clip, tmp_path / f"{number}.mp4")
    assert len({(tmp_path / f"{number}.mp4").read_bytes() for number in range(3)}) == 1


@pytest.mark.parametrize(("height", "width"), [(63, 95), (64, 95), (63, 96)])
def test_odd_sizes_are_padded_and_reported(tmp_path: Path, height: int, width: int) -> None:
    made = moving(4, height, width)
    with FrameWriter(tmp_path / "odd.mp4", 8) as writer:
        writer.write(made)
    assert len(writer.notes) == 1 and f"padded from {width}x{height} to 96x64" in writer.notes[0]
    back = read_clip(tmp_path / "odd.mp4").frames
    assert back.shape == (4, 3, 64, 96)
    assert psnr(back[:, :, :height, :width], made) > 32
    last = back[:, :, height - 1, :width]
    assert psnr(back[:, :, 63, :width], last) > 30, "the edge is repeated, not black"


def test_a_still_stays_a_still(tmp_path: Path) -> None:
    made = moving(1, 63, 95)
    assert write_clip(VideoClip(made, fps=1, prompt="x"), tmp_path / "s.png") == []
    clip = read_clip(tmp_path / "s.png")
    assert clip.prompt == "x" and float((clip.frames - made).abs().max()) <= 0.5 / 255 + 1e-6
    with pytest.raises(VideoError, match="one frame"), FrameWriter(tmp_path / "t.png") as writer:
        writer.write(moving(2, 64, 64))
    with pytest.raises(VideoError, match="one frame"):
        write_clip(VideoClip(moving(2, 64, 64)), tmp_path / "t.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.json", "s.png"]


@pytest.mark.parametrize("bad", [KeyboardInterrupt, RuntimeError, VideoError, SystemExit])
def test_an_interrupted_write_leaves_everything_as_it_was(tmp_path: Path, bad: type[BaseException]) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"what was there")
    with pytest.raises(bad), FrameWriter(target, 8) as writer:
        writer.write(moving(3, 64, 64))
        assert len(list(tmp_path.iterdir())) == 2, "the temporary lies in the same folder"
        raise bad("stop")
    assert target.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_bad_frames_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    hole = moving(3, 64, 64)
    hole[1, 0, 5, 5] = float("nan")
    infinite = moving(3, 64, 64)
    infinite[2, 0, 5, 5] = float("inf")
    cases = [
        (hole, "NaN"),
        (infinite, "NaN or infinite"),
        (torch.zeros(3, 3, 64, 64, dtype=torch.uint8), "divide uint8"),
        (torch.zeros(2, 1, 64, 64), r"\(F, 3, H, W\)"),
        (torch.zeros(64, 64), r"\(F, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 64), "minimum"),
        ("frames", "float tensor"),
    ]
    for frames, words in cases:
        with pytest.raises(VideoError, match=words), FrameWriter(tmp_path / "x.mp4", 8) as writer:
            writer.write(frames)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="all must be equal"), FrameWriter(tmp_path / "x.mp4", 8) as writer:
        writer.write(moving(1, 64, 64))
        writer.write(moving(1, 64, 80))
    with pytest.raises(VideoError, match="no frame was written"), FrameWriter(tmp_path / "x.mp4", 8):
        pass
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_the_range_are_clamped(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "x.png") as writer:
        writer.write(torch.full((3, 32, 32), 1.7))
    assert float(read_clip(tmp_path / "x.png").frames.min()) == 1


def test_bad_targets_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path, words in (
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "no" / "x.mp4", "does not exist"),
        (tmp_path / "file" / "x.mp4", "is not a folder"),
        (tmp_path / "x.avi", "use .mp4"),
        (tmp_path / "x", "use .mp4"),
    ):
        with pytest.raises(VideoError, match=words) as error:
            FrameWriter(path, 8)
        assert "\n" not in str(error.value)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        FrameWriter(tmp_path / "pipe.mp4", 8)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(VideoError, match="no permission to write"):
        FrameWriter(tmp_path / "x.mp4", 8)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-5, 5000, "8", True])
def test_fps_is_checked(tmp_path: Path, fps: object) -> None:
    with pytest.raises(VideoError, match="fps"):
        FrameWriter(tmp_path / "x.mp4", fps)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("crf", [-1, 52, float("nan"), "12"])
def test_crf_is_checked(tmp_path: Path, crf: object) -> None:
    with pytest.raises(VideoError, match="crf"):
        FrameWriter(tmp_path / "x.mp4", 8, crf=crf)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, limit: int) -> None:
    """A file-size limit fails the writes of the encoder's own library just as a full disk does."""
    target = tmp_path / "out.mp4"
    target.write_bytes(b"what was there")
    script = """
        import resource, sys, torch
        from nc_refiner.video import FrameWriter, VideoError
        frames = torch.rand(12, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        try:
            with FrameWriter(sys.argv[1], 8) as writer:
                writer.write(frames)
        except VideoError as error:
            sys.stdout.write(f"refused: {error}")
            sys.exit(0)
        sys.exit(3)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(target), str(limit)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: ") and str(target) in done.stdout and "\n" not in done.stdout
    assert target.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_for_stills_and_sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(VideoError, match="disk is full"):
            write_clip(VideoClip(moving(1, 64, 64)), tmp_path / "x.png")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(VideoError, match="disk is full"):
            write_clip(VideoClip(moving(2, 64, 64)), tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


def test_permissions_and_links_are_respected(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "store" / "real.mp4")
    mask = os.umask(0o022)
    try:
        with FrameWriter(tmp_path / "link.mp4", 8) as writer:
            writer.write(moving(2, 64, 64))
    finally:
        os.umask(mask)
    assert (tmp_path / "link.mp4").is_symlink()
    assert probe(tmp_path / "store" / "real.mp4").frames == 2
    assert stat.S_IMODE((tmp_path / "store" / "real.mp4").stat().st_mode) == 0o644


def test_a_writer_is_closed_once(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "x.mp4", 8) as writer:
        writer.write(moving(1, 64, 64)[0])
    writer.close()
    with pytest.raises(VideoError, match="closed"):
        writer.write(moving(1, 64, 64))
    assert writer.frames == 1 and probe(tmp_path / "x.mp4").frames == 1


def test_a_dropped_writer_takes_its_temporary_along(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path / "x.mp4", 8)
    assert len(list(tmp_path.iterdir())) == 1
    del writer
    assert list(tmp_path.iterdir()) == []


def test_a_real_clip_survives_the_trip(tmp_path: Path, real) -> None:
    clip = read_clip(real("published/vc_0240_reference.mp4"), exact_colour=True)
    write_clip(clip, tmp_path / "x.mp4")
    back = read_clip(tmp_path / "x.mp4", exact_colour=True)
    assert back.frames.shape == clip.frames.shape and back.fps == clip.fps
    assert psnr(back.frames, clip.frames) > 38
    assert abs(float((back.frames - clip.frames).mean())) < 0.3 / 255
