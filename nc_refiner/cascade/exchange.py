"""How a clip goes from one stage to the next: rounded to 8 bits and kept without loss, so that a run that was resumed
hands on exactly what an undisturbed one does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..clip import VideoClip
from ..files import AtomicFile, failures_told
from ..video import VideoError
from ..video.write import as_bytes

__all__ = ["read_exact", "rounded", "write_exact"]


def rounded(clip: VideoClip) -> VideoClip:
    """The clip with every value rounded to the nearest of 256."""
    return VideoClip(clip.frames.mul(255).round().div(255), clip.fps, clip.prompt, clip.seed, clip.history)


def write_exact(clip: VideoClip, path: Path) -> None:
    """Write the frames to `path` as FFV1 in Matroska, RGB, 8 bits, lossless; whole or not at all.

    Raises:
        VideoError: it cannot be written.
    """
    import av

    with AtomicFile(path) as file:
        with failures_told(path), av.open(str(file.temporary), "w", format="matroska") as container:
            # The muxer would otherwise write random identifiers into the file.
            container.flags |= av.container.core.Flags.bitexact.value
            stream: Any = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "bgr0"
            stream.codec_context.thread_count = 1
            for frame in clip.frames:
                picture = av.VideoFrame.from_ndarray(as_bytes(frame), format="rgb24")
                container.mux(stream.encode(picture.reformat(format="bgr0")))
            container.mux(stream.encode(None))
        file.commit()


def read_exact(path: Path, like: dict[str, Any]) -> VideoClip:
    """Read what `write_exact` wrote; `like` holds fps, prompt, seed and history of the clip.

    Raises:
        VideoError: the file cannot be read.
    """
    import av

    frames = []
    try:
        with av.open(os.fspath(path)) as container:
            for picture in container.decode(video=0):
                frames.append(torch.from_numpy(picture.to_ndarray(format="rgb24")).permute(2, 0, 1))
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(f"{path}: cannot be read ({error}); run the cascade without --resume") from None
    if not frames:
        raise VideoError(f"{path}: holds no frame; run the cascade without --resume")
    pixels = torch.stack(frames).float().div(255)
    return VideoClip(pixels, like["fps"], like["prompt"], like["seed"], tuple(like["history"]))
