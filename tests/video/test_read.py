"""Probing and reading real files, good and bad."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from nc_refiner.video import FrameReader, ReadLimits, probe, read_clip
from nc_refiner.video import decode as decode_module
from nc_refiner.video.decode import av_frames, decord_reader, frames_of
from nc_refiner.video.probe import inspect

from .conftest import make_video, moving, psnr


def test_probe_reports_what_was_encoded(plain: Path) -> None:
    info = probe(plain)
    assert (info.frames, info.fps, info.width, info.height) == (12, 8.0, 96, 64)
    assert info.duration == pytest.approx(1.5)
    assert (info.audio, info.variable_frame_rate, info.rotation, info.still) == (False, False, 0, False)
    assert info.pix_fmt == "yuv420p" and info.path == plain


def test_frames_are_the_encoded_ones_in_order(plain: Path) -> None:
    with FrameReader(plain) as reader:
        frames = list(reader)
    assert len(frames) == len(reader) == 12
    for number, (found, made) in enumerate(zip(frames, moving(12, 64, 96), strict=True)):
        assert found.dtype == torch.float32 and found.shape == (3, 64, 96)
        assert float(found.min()) >= 0 and float(found.max()) <= 1
        assert psnr(found, made) > 30, number


def test_a_reader_can_be_iterated_twice_and_stopped_early(plain: Path) -> None:
    with FrameReader(plain, max_frames=5) as reader:
        first, second = list(reader), list(reader)
        assert len(first) == reader.frames == 5
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        iterator = iter(reader)
        next(iterator)
    assert list(iterator) == []


def test_height_resizes_to_an_even_width_and_stays_in_range(plain: Path) -> None:
    with FrameReader(plain, height=37) as reader:
        frames = list(reader)
        assert (reader.height, reader.width) == (37, 56)
    assert frames[0].shape == (3, 37, 56)
    assert min(float(f.min()) for f in frames) >= 0 and max(float(f.max()) for f in frames) <= 1
    want = torch.nn.functional.interpolate(moving(12, 64, 96), (37, 56), mode="bicubic", antialias=True).clamp(0, 1)
    assert psnr(torch.stack(frames), want) > 30


def test_decord_and_pyav_agree_to_the_bit(plain: Path) -> None:
    pytest.importorskip("decord")
    source = inspect(plain, ReadLimits())
    assert decord_reader(source) is not None
    through_decord = list(frames_of(source, ReadLimits()))
    through_av = list(av_frames(source, ReadLimits()))
    assert len(through_decord) == len(through_av) == 12
    assert all(torch.equal(a, b) for a, b in zip(through_decord, through_av, strict=True))


@pytest.mark.parametrize("name", ["published/vc_0240_reference.mp4", "generated/ltxv_text_to_video.mp4"])
def test_decord_and_pyav_agree_on_real_clips(real, name: str) -> None:
    pytest.importorskip("decord")
    source = inspect(real(name), ReadLimits())
    assert decord_reader(source) is not None
    pairs = list(zip(frames_of(source, ReadLimits()), av_frames(source, ReadLimits()), strict=True))
    assert len(pairs) == source.info.frames >= 16
    assert max(float((a - b).abs().max()) for a, b in pairs) <= 1 / 255 + 1e-6


def test_without_decord_the_same_frames_come_from_pyav(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_clip(plain).frames
    monkeypatch.setitem(sys.modules, "decord", None)
    assert decord_reader(inspect(plain, ReadLimits())) is None
    assert torch.equal(read_clip(plain).frames, expected)


def test_pyav_takes_over_where_decord_gives_up(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    expected = read_clip(plain).frames
    honest = decode_module._decord_frames

    def three(reader, source):
        yield from (frame for frame, _ in zip(honest(reader, source), range(3), strict=False))

    monkeypatch.setattr(decode_module, "_decord_frames", three)
    assert torch.equal(read_clip(plain).frames, expected)


def test_exact_colour_is_closer_to_the_source(plain: Path) -> None:
    made = moving(12, 64, 96)
    quick, exact = read_clip(plain).frames, read_clip(plain, exact_colour=True).frames
    assert psnr(exact, made) > psnr(quick, made) + 1
    assert float((exact - made).mean().abs()) < 0.5 / 255


def test_a_long_clip_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer slower than the decoder must not fill the memory with frames waiting for it."""
    path = make_video(tmp_path / "long.mp4", moving(1, 480, 640).expand(150, -1, -1, -1))
    monkeypatch.setattr(decode_module, "_DECORD_BYTES", 100 * 2**20)
    assert decord_reader(inspect(path, ReadLimits())) is None, "decord reads ahead without bound"
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("resident memory is only read on Linux")
    page = os.sysconf("SC_PAGE_SIZE")
    with FrameReader(path) as reader:
        frames = iter(reader)
        for _ in range(8):
            next(frames)
        start, peak, count = int(statm.read_text().split()[1]), 0, 8
        for _ in frames:
            count += 1
            time.sleep(0.001)
            peak = max(peak, int(statm.read_text().split()[1]))
    assert count == 150
    assert (peak - start) * page < 48e6, "all 150 frames would take 138 MB as bytes"


def test_variable_frame_rate_is_reported_and_read_by_index(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 900, 940, 980]
    path = make_video(tmp_path / "vfr.mp4", moving(8, 64, 96), fps=25, times=times)
    info = probe(path)
    assert info.variable_frame_rate and info.frames == 8
    assert info.fps == pytest.approx(8 / 1.02, rel=0.05)
    clip = read_clip(path)
    assert min(psnr(a, b) for a, b in zip(clip.frames, moving(8, 64, 96), strict=True)) > 30


def test_odd_sizes_are_read_whole(tmp_path: Path) -> None:
    path = make_video(tmp_path / "odd.mp4", moving(4, 63, 95), pix_fmt="yuv444p")
    assert read_clip(path).frames.shape == (4, 3, 63, 95)


def test_ten_bits_are_kept(tmp_path: Path) -> None:
    made = moving(4, 64, 96)
    path = make_video(tmp_path / "ten.mp4", made, pix_fmt="yuv420p10le")
    assert probe(path).pix_fmt == "yuv420p10le"
    clip = read_clip(path)
    levels = clip.frames * 255
    assert float((levels - levels.round()).abs().max()) > 0.1, "rounded to eight bits"
    assert psnr(clip.frames, made) > 38
    assert abs(float((clip.frames - made).mean())) < 0.5 / 255


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_white_and_black_keep_their_ends(tmp_path: Path, pix_fmt: str) -> None:
    made = torch.zeros(3, 3, 64, 64)
    made[:, :, 32:] = 1
    path = make_video(tmp_path / "ends.mp4", made, pix_fmt=pix_fmt)
    frames = read_clip(path).frames
    assert float(frames[:, :, 40:].mean()) > 0.99 and float(frames[:, :, :24].mean()) < 0.01


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_honoured(tmp_path: Path, degrees: int, turns: int) -> None:
    made = moving(4, 64, 96)
    path = make_video(tmp_path / "phone.mp4", made, rotation=degrees)
    info = probe(path)
    upright = torch.rot90(made, turns, (2, 3))
    assert info.rotation == turns * 90
    assert (info.height, info.width) == tuple(upright.shape[2:])
    assert psnr(read_clip(path).frames, upright) > 30


def test_one_frame_and_audio(tmp_path: Path, with_audio: Path) -> None:
    path = make_video(tmp_path / "one.mp4", moving(1, 64, 96))
    assert probe(path).frames == 1 and read_clip(path).frames.shape == (1, 3, 64, 96)
    info = probe(with_audio)
    assert info.audio and info.frames == 16 and info.fps == 8
    assert len(read_clip(with_audio)) == 16


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".ts"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"other{suffix}", moving(9, 64, 96), options={})
    info = probe(path)
    assert (info.frames, info.width, info.height) == (9, 96, 64)
    assert info.fps == pytest.approx(8, rel=0.01)
    assert psnr(read_clip(path).frames, moving(9, 64, 96)) > 30


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_stills_are_one_frame(tmp_path: Path, suffix: str) -> None:
    made = moving(1, 48, 80)[0]
    path = tmp_path / f"still{suffix}"
    Image.fromarray(made.mul(255).round().byte().permute(1, 2, 0).numpy()).save(path, quality=95)
    info = probe(path)
    assert info.still and (info.frames, info.fps, info.width, info.height) == (1, 1.0, 80, 48)
    clip = read_clip(path)
    assert clip.frames.shape == (1, 3, 48, 80) and clip.fps == 1
    assert psnr(clip.frames[0], made) > 33
    with FrameReader(path, height=24) as reader:
        assert [tuple(frame.shape) for frame in reader] == [(3, 24, 40)]


def test_stills_by_content_orientation_depth_and_transparency(tmp_path: Path) -> None:
    made = moving(1, 48, 80)[0]
    picture = Image.fromarray(made.mul(255).round().byte().permute(1, 2, 0).numpy())
    picture.save(tmp_path / "misnamed.mp4", format="PNG")
    assert probe(tmp_path / "misnamed.mp4").still
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    info = probe(tmp_path / "phone.jpg")
    assert (info.width, info.height) == (48, 80)
    assert psnr(read_clip(tmp_path / "phone.jpg").frames[0], torch.rot90(made, -1, (1, 2))) > 33
    grey = (torch.arange(48 * 80).reshape(48, 80) * 17).to(torch.int32).numpy().astype("uint16")
    Image.fromarray(grey).save(tmp_path / "deep.png")
    deep = read_clip(tmp_path / "deep.png").frames
    assert torch.allclose(deep[0, 1], torch.from_numpy(grey.astype("float32")) / 65535)
    Image.new("RGBA", (32, 32), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert float(read_clip(tmp_path / "clear.png").frames.max()) == 0


def test_sidecar_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", moving(4, 64, 96))
    assert read_clip(path).prompt is None
    side = {"fps": 8.001, "prompt": "a camel", "seed": 7, "history": ["base", "refined"]}
    (tmp_path / "clip.json").write_text(json.dumps(side))
    clip = read_clip(path)
    assert (clip.fps, clip.prompt, clip.seed, clip.history) == (8.001, "a camel", 7, ("base", "refined"))
    (tmp_path / "clip.json").write_text(json.dumps({"fps": 24}))
    with pytest.warns(UserWarning, match="plays at 8 fps"):
        assert read_clip(path).fps == 8


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"other": 1}',
        '{"fps": "fast"}',
        '{"fps": -1}',
        '{"fps": NaN}',
        '{"seed": 1.5}',
        '{"prompt": 3}',
        '{"history": "x"}',
        '{"history": [1]}',
        "[" * 100_000,
    ],
)
def test_invalid_sidecars_are_ignored_with_a_warning(tmp_path: Path, plain: Path, text: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(plain.read_bytes())
    (tmp_path / "clip.json").write_text(text)
    with pytest.warns(UserWarning, match="is ignored"):
        clip = read_clip(path, max_frames=1)
    assert (clip.fps, clip.prompt, clip.seed, clip.history) == (8.0, None, None, ())
