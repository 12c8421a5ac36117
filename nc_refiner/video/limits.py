"""How much a file may ask of this process."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import VideoError

__all__ = ["MIN_SIDE", "ReadLimits"]

MIN_SIDE = 16
"""Smallest height and width, in pixels, of anything read or written: one macroblock of the codec."""


@dataclass(frozen=True)
class ReadLimits:
    """Upper bounds checked against the header and again on every decoded frame.

    Attributes:
        max_frames: frames that may be read from one file, at least 1. The default is ten minutes at 60 fps.
        max_pixels: pixels of one frame (height times width), at least 256. The default is 2^25, just above 8K.
        max_seconds: seconds of playback that may be read, above 0.
        max_clip_bytes: bytes `read_clip` may hold as one float32 tensor, at least 1.

    Raises:
        VideoError: a field outside its range.
    """

    max_frames: int = 36_000
    max_pixels: int = 2**25
    max_seconds: float = 1_200.0
    max_clip_bytes: int = 8 * 2**30

    def __post_init__(self) -> None:
        for name, low in (("max_frames", 1), ("max_pixels", MIN_SIDE * MIN_SIDE), ("max_clip_bytes", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise VideoError(f"{name} is {value!r}; it must be a whole number, at least {low}")
        seconds = self.max_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
            raise VideoError(f"max_seconds is {seconds!r}; it must be a finite number above 0")
        if seconds <= 0:
            raise VideoError(f"max_seconds is {seconds!r}; it must be above 0")

    def check_size(self, path: object, width: int, height: int) -> None:
        """Raise `VideoError` unless a frame of `width` by `height` pixels is neither too small nor too large."""
        if min(width, height) < MIN_SIDE:
            raise VideoError(
                f"{path}: frames are {width}x{height} pixels; the minimum is {MIN_SIDE}x{MIN_SIDE}; use a larger video"
            )
        if width * height > self.max_pixels:
            raise VideoError(
                f"{path}: frames are {width}x{height} ({width * height} pixels), the limit is {self.max_pixels}; "
                "scale the video down or raise ReadLimits.max_pixels"
            )

    def check_length(self, path: object, frames: int, seconds: float) -> None:
        """Raise `VideoError` if `frames` frames or `seconds` seconds of playback are too many."""
        if frames > self.max_frames:
            raise VideoError(
                f"{path}: {frames} frames or more, the limit is {self.max_frames}; cut the video, read fewer "
                "frames with max_frames, or raise ReadLimits.max_frames"
            )
        if seconds > self.max_seconds:
            raise VideoError(
                f"{path}: {seconds:.1f} seconds, the limit is {self.max_seconds:g}; cut the video, read fewer "
                "frames with max_frames, or raise ReadLimits.max_seconds"
            )
