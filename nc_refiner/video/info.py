"""What is known of a video or picture before its frames are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "VideoInfo"]


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` found.

    Attributes:
        path: the file.
        frames: number of frames.
        fps: frames per second, > 0; the average where the rate varies; 1 for a still.
        width: pixels, as displayed (after rotation).
        height: pixels, as displayed (after rotation).
        duration: seconds of playback.
        audio: whether there is an audio stream.
        variable_frame_rate: whether the frames are unevenly spaced in time.
        pix_fmt: the decoder's name of the pixel layout, such as `yuv420p`; Pillow's mode for a still.
        rotation: degrees counter-clockwise, 0, 90, 180 or 270, that the stored picture is turned for display.
        still: whether the file is a picture.
    """

    path: Path
    frames: int
    fps: float
    width: int
    height: int
    duration: float
    audio: bool
    variable_frame_rate: bool
    pix_fmt: str
    rotation: int
    still: bool


@dataclass(frozen=True)
class Source:
    """`info`, and what the decoders need to know beside it."""

    info: VideoInfo
    # Whether `info.frames` is a count a complete file must reach.
    exact: bool = False
    # Whether the container has a sample table without hidden entries, as decord expects.
    indexed: bool = False
