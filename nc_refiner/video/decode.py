"""Frames of a video file, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from .errors import VideoError
from .info import Source
from .limits import ReadLimits
from .probe import open_input, video_stream
from .scaling import EXACT_READING

__all__ = ["av_frames", "decord_reader", "frames_of"]

# decord's thread decodes ahead of a slow consumer without bound; up to here even a whole clip of it may wait in memory.
_DECORD_BYTES = 256 * 2**20
# 8-bit layouts; decord returns nothing deeper.
_DECORD_PIX_FMTS = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


def frames_of(source: Source, limits: ReadLimits, exact_colour: bool = False) -> Iterator[Tensor]:
    """The frames of `source` as float32 `(3, H, W)` in [0, 1]; raises `VideoError` at the first unreadable one."""
    done = 0
    reader = None if exact_colour else decord_reader(source)
    if reader is not None:
        for frame in _decord_frames(reader, source):
            yield frame
            done += 1
        del reader
        if done == source.info.frames:
            return
    # What decord could not decode is tried with PyAV, whose libraries are years newer, before a person is bothered.
    yield from av_frames(source, limits, skip=done, exact_colour=exact_colour)


def decord_reader(source: Source) -> Any | None:
    """A `decord.VideoReader` if decord is installed and reads this file correctly in bounded memory, else None."""
    info = source.info
    size = info.frames * info.width * info.height * 3
    if not source.indexed or info.rotation or info.pix_fmt not in _DECORD_PIX_FMTS or size > _DECORD_BYTES:
        return None
    try:
        import decord
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        # One recovered (that is, repeated) frame is one too many.
        reader = decord.VideoReader(str(info.path), ctx=decord.cpu(0), num_threads=1, fault_tol=1)
    except (RuntimeError, AssertionError, decord.DECORDError):
        return None
    return reader if len(reader) == info.frames else None


def _decord_frames(reader: Any, source: Source) -> Iterator[Tensor]:
    import decord

    info = source.info
    for _ in range(info.frames):
        try:
            array = reader.next()
            # The host process may have set decord's bridge to torch.
            pixels = array if isinstance(array, Tensor) else torch.from_numpy(array.asnumpy())
        except (StopIteration, RuntimeError, AssertionError, decord.DECORDError, decord.DECORDLimitReachedError):
            return
        if tuple(pixels.shape) != (info.height, info.width, 3):
            return
        yield pixels.permute(2, 0, 1).contiguous().float().div_(255)


def av_frames(source: Source, limits: ReadLimits, skip: int = 0, exact_colour: bool = False) -> Iterator[Tensor]:
    """The frames from number `skip` on, decoded by PyAV; shape, range and errors as `frames_of`."""
    info = source.info
    done = 0
    try:
        with open_input(info.path, limits) as container:
            stream = video_stream(info.path, container)
            stream.thread_type = "AUTO"
            # `done` counts the skipped frames too, so that the error says how many of the file are readable.
            decoded = container.decode(stream)
            for _ in islice(decoded, skip):
                done += 1
            for frame in decoded:
                if frame.is_corrupt:
                    break
                yield _to_tensor(frame, source, exact_colour)
                done += 1
    except VideoError as error:
        if done == 0 or "frame size changes" in str(error):
            raise
        raise _unreadable(source, done) from None
    if source.exact and done < info.frames:
        raise _unreadable(source, done)


def _unreadable(source: Source, done: int) -> VideoError:
    return VideoError(
        f"{source.info.path}: only {done} of {source.info.frames} frames can be read, the file is damaged or cut off; "
        f"copy it again, or read the first {done} with max_frames={done}"
    )


def _to_tensor(frame: Any, source: Source, exact_colour: bool) -> Tensor:
    info = source.info
    # Deeper sources keep their steps: rounding them to 8 bits would band smooth skies.
    deep = max((component.bits for component in frame.format.components), default=8) > 8
    if deep:
        array = frame.reformat(format="gbrp16le", interpolation=EXACT_READING).to_ndarray()
        # Converted from YUV, swscale's sixteen-bit white is 255 * 256.
        white = 65535 if frame.format.is_rgb else 65280
        pixels = torch.from_numpy(array.astype("float32")).div_(white).clamp_(0, 1)
    else:
        # The default is what decord does, to the bit, so that pixels do not depend on which of the two read the file.
        array = frame.reformat(format="rgb24", interpolation=EXACT_READING if exact_colour else None).to_ndarray()
        pixels = torch.from_numpy(array).float().div_(255)
    pixels = torch.rot90(pixels, info.rotation // 90, (0, 1)).permute(2, 0, 1).contiguous()
    if tuple(pixels.shape[1:]) != (info.height, info.width):
        raise VideoError(
            f"{info.path}: the frame size changes from {info.width}x{info.height} to "
            f"{pixels.shape[2]}x{pixels.shape[1]} (frame size changes are not supported); convert it to one size"
        )
    return pixels
