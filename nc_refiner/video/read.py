"""Reading: frames one at a time, or a short clip at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import VideoClip
from .decode import frames_of
from .errors import VideoError
from .info import Source, VideoInfo
from .limits import MIN_SIDE, ReadLimits
from .probe import inspect, probe
from .sidecar import read_sidecar
from .still import read_still

__all__ = ["FrameReader", "VideoInfo", "probe", "read_clip", "resize"]


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames `(..., 3, H, W)` in [0, 1] at another size in pixels: antialiased bicubic, clamped to [0, 1]."""
    if tuple(frames.shape[-2:]) == (height, width):
        return frames
    batch = frames.reshape(-1, *frames.shape[-3:])
    batch = F.interpolate(batch, size=(height, width), mode="bicubic", antialias=True).clamp_(0, 1)
    return batch.reshape(*frames.shape[:-2], height, width)


class FrameReader:
    """Iterates over the frames of a video or picture as float32 `(3, H, W)`, RGB, in [0, 1].

    Memory stays bounded whatever the length of the file. Every iteration starts at the first frame.

    Args:
        path: the file; a picture is one frame.
        max_frames: stop after this many frames, at least 1.
        height: resize every frame to this height in pixels, at least 16, keeping the aspect (antialiased bicubic); the
            width becomes the nearest even number.
        limits: what the file may ask for; checked on the header and again while reading.
        exact_colour: convert colours with full chroma resolution and rounding. The default is decord's quick
            conversion, which darkens by about 1 step of 255 and blurs chroma; this one reads through PyAV.

    Attributes:
        info: the `VideoInfo` of the file, as stored.
        frames: number of frames an iteration gives.
        height: pixels of the frames it gives.
        width: pixels of the frames it gives.

    Raises:
        VideoError: at once for what the header shows; while iterating for a frame that is missing or damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_frames: int | None = None,
        height: int | None = None,
        limits: ReadLimits | None = None,
        exact_colour: bool = False,
    ) -> None:
        _check_whole("max_frames", max_frames, 1)
        _check_whole("height", height, MIN_SIDE)
        self._limits = limits or ReadLimits()
        self._source: Source = inspect(path, self._limits)
        self._max_frames = max_frames
        self._exact_colour = exact_colour
        self._iterators: list[Iterator[Tensor]] = []
        self.info = info = self._source.info
        self.frames = info.frames if max_frames is None else min(max_frames, info.frames)
        seconds = info.duration * self.frames / info.frames
        self._limits.check_length(info.path, self.frames, seconds)
        self.height, self.width = info.height, info.width
        if height is not None:
            self.height = height
            self.width = 2 * round(info.width * height / info.height / 2)
            # The limit on pixels holds for what is asked of us as well as for what is stored.
            self._limits.check_size(f"{info.path} at height {height}", self.width, self.height)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[Tensor]:
        iterator = self._iterate()
        self._iterators.append(iterator)
        return iterator

    def _iterate(self) -> Iterator[Tensor]:
        info, limits = self.info, self._limits
        if info.still:
            yield resize(read_still(info.path, limits), self.height, self.width)
            return
        for number, frame in enumerate(frames_of(self._source, limits, self._exact_colour), start=1):
            # The header may have promised less than the file holds.
            limits.check_length(info.path, number, number / info.fps if number > info.frames else 0.0)
            yield resize(frame, self.height, self.width)
            if self._max_frames is not None and number >= self._max_frames:
                return

    def close(self) -> None:
        """Close the file; iterators already handed out end."""
        for iterator in self._iterators:
            iterator.close()  # type: ignore[attr-defined]
        self._iterators.clear()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_clip(
    path: str | os.PathLike[str],
    *,
    max_frames: int | None = None,
    height: int | None = None,
    limits: ReadLimits | None = None,
    exact_colour: bool = False,
) -> VideoClip:
    """A short video or a picture as one `VideoClip`, float32 `(F, 3, H, W)` in [0, 1].

    Prompt, seed and history come from `<stem>.json` beside the file, if there is one; so does fps if it agrees with the
    video to 1 % (or the file is a picture, which has none). A sidecar that is not valid is ignored with a warning.

    Args:
        path: the file.
        max_frames: read at most this many frames, at least 1.
        height: resize to this height in pixels, as `FrameReader` does.
        limits: what the file may ask for.
        exact_colour: as `FrameReader`.

    Raises:
        VideoError: as `FrameReader`, or if the frames would not fit `limits.max_clip_bytes`.
    """
    limits = limits or ReadLimits()
    with FrameReader(path, max_frames=max_frames, height=height, limits=limits, exact_colour=exact_colour) as reader:
        size = reader.frames * 3 * reader.height * reader.width * 4
        if size > limits.max_clip_bytes:
            raise VideoError(
                f"{path}: {reader.frames} frames of {reader.width}x{reader.height} take {size / 2**30:.1f} GiB in "
                f"memory, the limit is {limits.max_clip_bytes / 2**30:.1f}; use FrameReader, max_frames, height, or "
                "raise ReadLimits.max_clip_bytes"
            )
        frames = torch.empty(reader.frames, 3, reader.height, reader.width)
        count = 0
        for frame in reader:
            if count == len(frames):
                raise VideoError(f"{path}: holds more frames than its header's {count}; convert it again")
            frames[count] = frame
            count += 1
        info = reader.info
    if not count:
        raise VideoError(f"{path}: has no frame that can be decoded; is the file complete?")
    # Only codecs with hidden frames come up short here; the reader has refused every other shortfall.
    frames = frames if count == len(frames) else frames[:count].clone()
    sidecar = read_sidecar(Path(path))
    fps = info.fps
    if sidecar.fps is not None and (info.still or abs(sidecar.fps / fps - 1) < 0.01):
        fps = sidecar.fps
    elif sidecar.fps is not None:
        warnings.warn(f"{path}: plays at {fps:g} fps, its sidecar says {sidecar.fps:g}; kept {fps:g}", stacklevel=2)
    return VideoClip(frames, fps, sidecar.prompt, sidecar.seed, sidecar.history)


def _check_whole(name: str, value: int | None, low: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
        raise VideoError(f"{name} is {value!r}; it must be a whole number, at least {low}")
