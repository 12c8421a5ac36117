"""Files that were cut off in formats whose decoders do not mind."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest

from nc_refiner.video import VideoError, probe, read_clip

from .conftest import moving


def _written(path: Path, codec: str, frames: int = 8, **options: str) -> Path:
    pixels = (moving(frames, 48, 64) * 255).byte().permute(0, 2, 3, 1).numpy()
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx"), (".gif", "gif")])
def test_whole_files_are_read_and_cut_ones_refused(tmp_path, suffix, codec):
    path = _written(tmp_path / f"whole{suffix}", codec)
    assert probe(path).frames == 8 and len(read_clip(path)) == 8
    raw, chance = path.read_bytes(), random.Random(3)
    lengths = {len(raw) - 1, len(raw) - 10, *(chance.randrange(len(raw) // 3, len(raw) - 1) for _ in range(20))}
    for length in sorted(lengths):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(raw[:length])
        with pytest.raises(VideoError):
            read_clip(cut)


def test_what_does_not_say_its_length_is_still_read(tmp_path):
    path = _written(tmp_path / "live.mkv", "libx264", live="1")
    assert len(read_clip(path)) == 8


def test_something_behind_a_whole_gif_does_no_harm(tmp_path):
    path = _written(tmp_path / "a.gif", "gif")
    path.write_bytes(path.read_bytes() + b"\0\0 and a note")
    assert len(read_clip(path)) == 8
