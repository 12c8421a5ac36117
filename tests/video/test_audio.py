"""Audio copied from the source beside new frames."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from nc_refiner.video import FrameWriter, probe, read_clip

from .conftest import make_video, moving, psnr

ROOT = Path(__file__).parents[2]


def test_audio_is_copied_and_cut(tmp_path: Path, with_audio: Path) -> None:
    with FrameWriter(tmp_path / "a.mp4", 8, audio_from=with_audio) as writer:
        writer.write(moving(16, 64, 96))
    assert writer.notes == ["audio cut to the 2.00 seconds of the video"]
    with av.open(str(tmp_path / "a.mp4")) as container, av.open(str(with_audio)) as source:
        sound, original = container.streams.audio[0], source.streams.audio[0]
        assert sound.codec_context.name == "aac"
        assert float(sound.duration * sound.time_base) == pytest.approx(2, abs=0.05)
        ours = [bytes(p) for p in container.demux(sound) if p.size]
        theirs = [bytes(p) for p in source.demux(original) if p.size]
        assert len(ours) > 50 and ours == theirs[: len(ours)], "packets are copied, not encoded again"
    assert len(read_clip(tmp_path / "a.mp4")) == 16


def test_audio_shorter_than_the_video_is_kept_whole(tmp_path: Path) -> None:
    source = make_video(tmp_path / "s.mp4", moving(16, 64, 96), audio="aac", audio_seconds=1)
    with FrameWriter(tmp_path / "a.mp4", 8, audio_from=source) as writer:
        writer.write(moving(16, 64, 96))
    assert writer.notes == []
    with av.open(str(tmp_path / "a.mp4")) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(1, abs=0.05)


def test_audio_that_cannot_be_copied_is_reported(tmp_path: Path, plain: Path) -> None:
    pcm = make_video(tmp_path / "pcm.mkv", moving(4, 64, 96), audio="pcm_s16le", options={})
    (tmp_path / "text.wav").write_text("no sound")
    for source, words in (
        (plain, "has no audio"),
        (pcm, "pcm_s16le"),
        (tmp_path / "none.mp4", "is not a file"),
        (tmp_path / "text.wav", "cannot be read"),
    ):
        with FrameWriter(tmp_path / "a.mp4", 8, audio_from=source) as writer:
            writer.write(moving(4, 64, 96))
        assert len(writer.notes) == 1 and writer.notes[0].startswith("audio dropped: ") and words in writer.notes[0]
        assert not probe(tmp_path / "a.mp4").audio


def test_a_file_can_be_refined_in_place(tmp_path: Path, with_audio: Path) -> None:
    path = tmp_path / "same.mp4"
    path.write_bytes(with_audio.read_bytes())
    with FrameWriter(path, 8, audio_from=path) as writer:
        writer.write(1 - moving(16, 64, 96))
    assert psnr(read_clip(path).frames, 1 - moving(16, 64, 96)) > 30
    assert probe(path).audio
