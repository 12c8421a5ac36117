"""Bad files, limits and arguments: one clear line each."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from nc_refiner.video import FrameReader, ReadLimits, VideoError, probe, read_clip
from nc_refiner.video.decode import av_frames
from nc_refiner.video.probe import inspect

from .conftest import make_video, moving


def one_line(error: pytest.ExceptionInfo[VideoError]) -> str:
    """The message, checked to be one line for people without a chained traceback."""
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text and len(text) > 20
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "text.png").write_text("this is not a picture\n" * 50)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile plain.mp4\n")
    expected = {
        "none.mp4": "no such file",
        ".": "is a folder",
        "empty.mp4": "file is empty",
        "text.mp4": "cannot be read as a video",
        "text.png": "not a picture",
        "list.mp4": "cannot be read as a video",
        "concat.mp4": "cannot be read as a video",
    }
    make_video(tmp_path / "plain.mp4", moving(2, 64, 96))
    for name, words in expected.items():
        for open_it in (probe, FrameReader, read_clip):
            with pytest.raises(VideoError) as error:
                open_it(tmp_path / name)
            assert words in one_line(error), name


def test_bad_files_are_refused_without_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str], plain: Path) -> None:
    data = plain.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("cut.mp4", "text.mp4"):
        with pytest.raises(VideoError):
            read_clip(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_cut_file_says_how_much_is_left(tmp_path: Path, plain: Path) -> None:
    data = plain.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(VideoError, match=r"cut off: [1-9]\d* of 12 frames") as error:
        probe(path)
    one_line(error)


def test_a_cut_file_without_its_index_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "late.mp4", moving(12, 64, 96), options={"movflags": "0"})
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(VideoError) as error:
        read_clip(path)
    one_line(error)


def test_a_cut_matroska_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "cut.mkv", moving(40, 64, 96), options={})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(VideoError) as error:
        read_clip(path)
    one_line(error)


def test_damage_in_the_middle_is_counted_not_skipped(tmp_path: Path, plain: Path) -> None:
    import av

    with av.open(str(plain)) as container:
        places = [(entry.pos, entry.size) for entry in container.streams.video[0].index_entries]
    data = bytearray(plain.read_bytes())
    position, size = places[6]
    data[position : position + size] = b"\xff" * size
    assert len(data) == plain.stat().st_size and size > 8
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"only \d+ of 12 frames can be read") as error:
        read_clip(path)
    assert "max_frames" in one_line(error)


def test_limits_hold_on_the_header(plain: Path) -> None:
    for limits, word in (
        (ReadLimits(max_frames=11), "max_frames"),
        (ReadLimits(max_pixels=6000), "max_pixels"),
        (ReadLimits(max_seconds=1.4), "max_seconds"),
    ):
        with pytest.raises(VideoError, match=word) as error:
            probe(plain, limits)
        one_line(error)
        with pytest.raises(VideoError, match=word):
            FrameReader(plain, limits=limits)
    assert len(read_clip(plain, max_frames=4, limits=ReadLimits(max_frames=4))) == 4
    with pytest.raises(VideoError, match="max_clip_bytes"):
        read_clip(plain, limits=ReadLimits(max_clip_bytes=10_000))
    with pytest.raises(VideoError, match="max_pixels"):
        FrameReader(plain, height=4000, limits=ReadLimits(max_pixels=10_000))


def test_limits_hold_when_the_header_lies(plain: Path) -> None:
    with FrameReader(plain, limits=ReadLimits(max_frames=12)) as reader:
        reader._limits = ReadLimits(max_frames=7)
        seen = []
        with pytest.raises(VideoError, match="max_frames"):
            for frame in reader:
                seen.append(frame)
        assert len(seen) == 7
    with FrameReader(plain) as reader:
        reader.info = replace(reader.info, frames=1, fps=0.001)
        with pytest.raises(VideoError, match="max_seconds"):
            list(reader)


def test_a_frame_larger_than_promised_is_refused_by_the_decoder(plain: Path) -> None:
    source = inspect(plain, ReadLimits())
    with pytest.raises(VideoError):
        list(av_frames(source, ReadLimits(max_pixels=1000)))


def test_frame_count_is_bounded_where_it_must_be_counted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "many.mkv", moving(30, 64, 96), options={})
    with pytest.raises(VideoError, match="max_frames"):
        probe(path, ReadLimits(max_frames=10))
    assert len(read_clip(path, max_frames=8, limits=ReadLimits(max_frames=10))) == 8


def test_too_small_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    make_video(tmp_path / "dot.mp4", torch.zeros(2, 3, 2, 2))
    for name in ("dot.png", "dot.mp4"):
        with pytest.raises(VideoError, match="minimum is 16x16") as error:
            read_clip(tmp_path / name)
        one_line(error)


def test_picture_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    tracemalloc.start()
    with pytest.raises(VideoError, match="max_pixels"):
        read_clip(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_audio_alone_and_animations_are_refused(tmp_path: Path, with_audio: Path) -> None:
    import av

    with av.open(str(with_audio)) as source, av.open(str(tmp_path / "sound.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="no video stream"):
        probe(tmp_path / "sound.mp4")
    pages = [Image.new("RGB", (32, 32), (i * 80, 0, 0)) for i in range(3)]
    pages[0].save(tmp_path / "moving.webp", save_all=True, append_images=pages[1:])
    with pytest.raises(VideoError, match="animation of 3 frames"):
        probe(tmp_path / "moving.webp")


@pytest.mark.parametrize(
    "arguments",
    [{"max_frames": 0}, {"max_frames": -3}, {"max_frames": 2.5}, {"max_frames": True}, {"height": 8}, {"height": "64"}],
)
def test_reader_arguments_are_checked(plain: Path, arguments: dict) -> None:
    with pytest.raises(VideoError, match="whole number"):
        FrameReader(plain, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_frames": 0},
        {"max_pixels": 1.5},
        {"max_seconds": 0},
        {"max_seconds": math.nan},
        {"max_seconds": math.inf},
        {"max_clip_bytes": True},
    ],
)
def test_limits_are_range_checked(arguments: dict) -> None:
    with pytest.raises(VideoError, match=next(iter(arguments))):
        ReadLimits(**arguments)
