"""Small real files, made once per session with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def moving(frames: int, height: int, width: int) -> Tensor:
    """A smooth colour pattern that moves: `(F, 3, H, W)`; every frame differs from every other."""
    y = torch.linspace(0, 1, height)[:, None]
    x = torch.linspace(0, 1, width)[None, :]
    rows = []
    for index in range(frames):
        phase = index / max(frames, 8)
        rows.append(
            torch.stack(
                [
                    0.5 + 0.4 * torch.sin(4 * (x + phase)) * torch.ones_like(y),
                    0.5 + 0.4 * torch.cos(5 * (y - phase)) * torch.ones_like(x),
                    0.2 + 0.6 * (x + y) / 2 + 0.1 * phase,
                ]
            )
        )
    return torch.stack(rows).clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal to noise in dB for values in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-12)))


def make_video(
    path: Path,
    frames: Tensor,
    *,
    fps: int = 8,
    pix_fmt: str = "yuv420p",
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    rotation: int = 0,
    audio: str | None = None,
    audio_seconds: float = 3.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames` without our own writer: `times` in 1/1000 s makes the rate vary."""
    base = Fraction(1, 1000) if times else Fraction(1, fps)
    with av.open(str(path), "w", options=options or {"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[3], frames.shape[2], pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": "10", "preset": "veryfast"}
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream(audio, rate=44_100, layout="mono") if audio else None
        for index, frame in enumerate(frames):
            array = frame.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
            picture = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pix_fmt)
            picture.pts, picture.time_base = (times[index] if times else index), base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound is not None:
            rate, total = 44_100, int(44_100 * audio_seconds)
            wave = (np.sin(np.arange(total) * 2 * np.pi * 440 / rate) * 0.3).astype(np.float32)
            kind = "fltp" if audio == "aac" else "s16"
            data = wave if kind == "fltp" else (wave * 32767).astype(np.int16)
            for start in range(0, total, 1024):
                block = av.AudioFrame.from_ndarray(data[None, start : start + 1024], format=kind, layout="mono")
                block.sample_rate, block.pts = rate, start
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 96x64 at 8 fps."""
    return make_video(tmp_path_factory.mktemp("video") / "plain.mp4", moving(12, 64, 96))


@pytest.fixture(scope="session")
def with_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen frames at 8 fps (2 s) with 3 s of AAC."""
    return make_video(tmp_path_factory.mktemp("video") / "audio.mp4", moving(16, 64, 96), audio="aac")


@pytest.fixture
def real() -> Callable[[str], Path]:
    """A real clip by its name under the shared data, or a skip that says why."""

    def find(name: str) -> Path:
        if not (DATA / name).is_file():
            pytest.skip(f"the shared clip {name} is not here")
        return DATA / name

    return find
