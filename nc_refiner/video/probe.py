"""What a file holds, from its header."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..files import PICTURE_SUFFIXES
from .errors import VideoError
from .info import Source, VideoInfo
from .limits import ReadLimits
from .still import inspect_still
from .whole import ends_early

__all__ = ["inspect", "open_input", "probe", "video_stream"]

# Playlists and scripts (HLS, concat, ...) are formats too, and would read other files on behalf of this one.
_FORMATS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,h264,hevc,flv,asf,ogg,ivf,yuv4mpegpipe,mxf,apng"
_STILL_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_CODECS_WITH_HIDDEN_FRAMES = {"vp8", "vp9", "av1"}
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def probe(path: str | os.PathLike[str], limits: ReadLimits | None = None) -> VideoInfo:
    """What is in `path`, from the header, the container's counts and one decoded frame.

    Raises:
        VideoError: no such file, not a video or picture, cut off, empty, too small, or beyond `limits`.
    """
    limits = limits or ReadLimits()
    info = inspect(path, limits).info
    limits.check_length(info.path, info.frames, info.duration)
    return info


def inspect(path: str | os.PathLike[str], limits: ReadLimits) -> Source:
    """`probe` without the limits on length: a reader that stops early may open a long file. Raises `VideoError`."""
    path = Path(path)
    if path.is_dir():
        raise VideoError(f"{path}: is a folder; give a video or picture file")
    if not path.exists():
        raise VideoError(f"{path}: no such file; check the name")
    if not path.is_file():
        raise VideoError(f"{path}: is not a regular file; give a video or picture file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from None
    if not head:
        raise VideoError(f"{path}: the file is empty; copy or download it again")
    if is_still(path, head):
        return Source(inspect_still(path, limits), exact=True)
    if ends_early(path, head):
        raise VideoError(f"{path}: is cut off, it ends before its own structure says; copy or download it again")
    return _inspect_video(path, limits)


def is_still(path: Path, head: bytes) -> bool:
    """Whether a file of this name that begins with `head` is a picture, whatever it is called."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return path.suffix.lower() in PICTURE_SUFFIXES or webp or head.startswith(_STILL_MAGIC)


@contextmanager
def open_input(path: Path, limits: ReadLimits) -> Iterator[Any]:
    """The file opened by PyAV, without playlists or network; every PyAV failure inside becomes a `VideoError`."""
    import av

    try:
        with av.open(
            os.path.abspath(path),
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
        ) as container:
            for stream in container.streams.video:
                if stream.codec_context is None:
                    continue
                stream.codec_context.options = {"max_pixels": str(min(limits.max_pixels, 2**31 - 1))}
            yield container
    except av.error.FFmpegError as error:
        reason = (error.strerror or str(error)).rstrip(".")
        raise VideoError(f"{path}: cannot be read as a video ({reason}); is it complete, and a video at all?") from None


def video_stream(path: Path, container: Any) -> Any:
    """The first video stream that is not cover art; raises `VideoError` if there is none."""
    import av.stream

    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise VideoError(f"{path}: has no video stream, only {len(container.streams)} other(s); give a video file")


def _inspect_video(path: Path, limits: ReadLimits) -> Source:
    with open_input(path, limits) as container:
        stream = video_stream(path, container)
        if stream.codec_context is None or not stream.codec_context.width:
            raise VideoError(f"{path}: its codec is unknown or it holds no frame; convert it to H.264")
        limits.check_size(path, stream.codec_context.width, stream.codec_context.height)
        frames, times, exact, indexed = _count(path, container, stream, limits)
        base = stream.time_base or Fraction(1, 90_000)
        fps, duration = _rate(path, stream, frames, times, base)
        if exact:
            _check_complete(path, container, stream, frames, times, base, fps)
        audio = bool(container.streams.audio)
        pix_fmt, codec = stream.codec_context.pix_fmt or "unknown", stream.codec_context.name
    # A fresh handle: counting may have read past the first frame, and not every container can seek back.
    with open_input(path, limits) as container:
        first = next(container.decode(video_stream(path, container)), None)
        if first is None:
            raise VideoError(f"{path}: has no frame that can be decoded; is the file complete?")
        rotation = round(first.rotation / 90) * 90 % 360
        width, height = first.width, first.height
        transfer = int(first.color_trc)
    limits.check_size(path, width, height)
    if transfer in _HDR_TRANSFERS:
        warnings.warn(
            f"{path}: is HDR ({_HDR_TRANSFERS[transfer]}) and is read without tone mapping; colours will look flat",
            UserWarning,
            stacklevel=4,
        )
    if rotation in (90, 270):
        width, height = height, width
    varies = _varies(times)
    info = VideoInfo(path, frames, fps, width, height, duration, audio, varies, pix_fmt, rotation, False)
    return Source(info, exact and not (codec in _CODECS_WITH_HIDDEN_FRAMES and not indexed), indexed)


def _count(path: Path, container: Any, stream: Any, limits: ReadLimits) -> tuple[int, list[int], bool, bool]:
    """Frames, their timestamps, whether the count is exact, and whether it is a plain sample table."""
    entries = stream.index_entries
    if "mp4" in container.format.name and stream.frames and len(entries) == stream.frames:
        size = path.stat().st_size
        whole = sum(entry.pos + entry.size <= size for entry in entries)
        if whole < len(entries):
            raise VideoError(
                f"{path}: is cut off: {whole} of {len(entries)} frames are in the file; copy or download it again"
            )
        times = [entry.timestamp for entry in entries if not entry.is_discard]
        if times:
            return len(times), times, True, len(times) == len(entries)
    times, count = [], 0
    # One more than allowed is enough to know that it is too many.
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            count += 1
            if packet.pts is not None:
                times.append(packet.pts)
            if count > limits.max_frames:
                return count, times, False, False
    if not count:
        raise VideoError(f"{path}: has no frames; is the file complete?")
    expected = int(stream.frames)
    if expected > count:
        raise VideoError(f"{path}: is cut off: {count} of {expected} frames are in the file; copy it again")
    return count, times, True, False


def _rate(path: Path, stream: Any, frames: int, times: list[int], base: Fraction) -> tuple[float, float]:
    """Frames per second and seconds of playback."""
    spread = float((max(times) - min(times)) * base) if len(times) > 1 else 0.0
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    measured = (len(times) - 1) / spread if spread > 0 else None
    stated = float(rate) if rate else None
    # Some containers store a guess (a tick rate, say); the timestamps are the truth when the two are far apart.
    if measured and (stated is None or not 0.5 < stated / measured < 2):
        stated = measured
    if stated is None or stated <= 0:
        raise VideoError(f"{path}: does not say how fast it plays; convert it to an mp4 with a frame rate")
    return stated, max(frames / stated, spread)


def _check_complete(
    path: Path, container: Any, stream: Any, frames: int, times: list[int], base: Fraction, fps: float
) -> None:
    """Matroska has no count of frames, but says how long the video is: a file cut off ends long before."""
    text = stream.metadata.get("DURATION") if "matroska" in container.format.name else None
    if not text or not times:
        return
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return
    stated = hours * 3600 + minutes * 60 + seconds
    end = float(max(times) * base) + 1 / fps
    if end < stated - max(0.5, 2 / fps):
        expected = max(frames + 1, round(stated * fps))
        raise VideoError(f"{path}: is cut off: {frames} of about {expected} frames are in the file; copy it again")


def _varies(times: list[int]) -> bool:
    ordered = sorted(times)
    steps = sorted(b - a for a, b in pairwise(ordered))
    if len(steps) < 2:
        return False
    # Rates that do not divide the clock alternate by one tick; the edges of edited files by a little more.
    return steps[-1] - steps[0] > max(2, 0.1 * steps[len(steps) // 2])
