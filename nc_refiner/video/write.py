"""Writing: H.264 in an mp4, or a PNG for a still."""

from __future__ import annotations

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import VideoClip
from ..files import AtomicFile, failures_told, write_text
from .audio import AudioCopy
from .errors import VideoError
from .limits import MIN_SIDE, ReadLimits
from .probe import inspect
from .scaling import EXACT_WRITING
from .sidecar import sidecar_path, sidecar_text

__all__ = ["FrameWriter", "as_bytes", "checked_frames", "write_clip"]

_BT709 = 1  # the code of primaries, transfer and matrix alike in H.264's table
_LIMITED = 1
_MAX_FPS = 1000
# x264 otherwise picks algorithms by processor, and some of them do not even repeat themselves.
_REPEATABLE = "cpu-independent=1"


def checked_frames(frames: Tensor) -> Tensor:
    """`frames`, `(3, H, W)` or `(F, 3, H, W)` float, as `(F, 3, H, W)` clamped to [0, 1]; raises `VideoError`."""
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        found = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise VideoError(f"frames must be a float tensor in [0, 1], found {found}; divide uint8 frames by 255")
    batch = frames.unsqueeze(0) if frames.ndim == 3 else frames
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise VideoError(f"frames must be (F, 3, H, W) or (3, H, W), found {tuple(frames.shape)}")
    if min(batch.shape[2:]) < MIN_SIDE:
        raise VideoError(f"frames are {batch.shape[3]}x{batch.shape[2]} pixels; the minimum is {MIN_SIDE}x{MIN_SIDE}")
    if not bool(torch.isfinite(batch).all()):
        raise VideoError("frames hold NaN or infinite values; nothing was written; check the model's output")
    return batch.detach().to("cpu", torch.float32).clamp(0, 1)


def as_bytes(frame: Tensor) -> Any:
    """A frame `(3, H, W)` in [0, 1] as a uint8 NumPy array `(H, W, 3)`, rounded to nearest."""
    return frame.mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _exact_rate(fps: float | Fraction) -> Fraction:
    if isinstance(fps, bool) or not isinstance(fps, (int, float, Fraction)) or not math.isfinite(fps):
        raise VideoError(f"fps is {fps!r}; it must be a number above 0")
    # Broadcast rates are n/1001: the nearest such fraction undoes the rounding of a float.
    rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
    if not 0 < rate <= _MAX_FPS:
        raise VideoError(f"fps is {fps}; it must be above 0 (at least 1/1001) and at most {_MAX_FPS}")
    return rate


class FrameWriter:
    """Writes frames as they come, to an mp4 or, for a single frame, a PNG.

    The mp4 is H.264, yuv420p, converted and tagged as BT.709 limited range, encoded on one thread so that the same
    frames give the same bytes. Everything goes to a temporary name in the same folder that replaces `path` when the
    `with` block ends well; on an exception or Ctrl-C it is removed and an existing `path` stays as it was.

    Args:
        path: ends in `.mp4`, or `.png` for a still.
        fps: frames per second, above 0, at most 1000; floats become the nearest fraction over at most 1001.
        crf: x264's quality, 0 (best, large) to 51.
        audio_from: a file whose first audio stream is copied, cut to the length of the video.

    Attributes:
        notes: one line for everything that could not be kept as it was (padding, audio); complete after closing.
        frames: frames written so far.

    Raises:
        VideoError: bad arguments or frames, a folder that is missing or not writable, a full disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction = 8.0,
        *,
        crf: float = 12,
        audio_from: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in (".mp4", ".png"):
            raise VideoError(f"{path}: ends in {suffix or 'nothing'}; use .mp4, or .png for a still")
        if isinstance(crf, bool) or not isinstance(crf, (int, float)) or not 0 <= crf <= 51:
            raise VideoError(f"crf is {crf!r}; it must be from 0 (best) to 51")
        self._still = suffix == ".png"
        self._rate = _exact_rate(fps)
        self._crf = crf
        self._audio_from = audio_from
        self._audio: AudioCopy | None = None
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._finished = self._closed = False
        self.notes: list[str] = []
        self.frames = 0
        self._file = AtomicFile(self.path)

    def write(self, frames: Tensor) -> None:
        """Append `(F, 3, H, W)` or `(3, H, W)` float frames; values are clamped to [0, 1].

        Raises:
            VideoError: wrong shape or size, NaN or infinite values, a second frame for a PNG, a full disk.
        """
        if self._finished or self._closed:
            raise VideoError(f"{self.path}: the writer is closed; open another")
        for frame in checked_frames(frames):
            size = (int(frame.shape[1]), int(frame.shape[2]))
            if self._size is None:
                self._size = size
            if size != self._size:
                raise VideoError(
                    f"{self.path}: a frame is {size[1]}x{size[0]}, the ones before were "
                    f"{self._size[1]}x{self._size[0]}; all must be equal"
                )
            if self._still and self.frames:
                raise VideoError(f"{self.path}: a PNG holds one frame; write an .mp4")
            with failures_told(self.path):
                self._encode(frame)
            self.frames += 1

    def _encode(self, frame: Tensor) -> None:
        if self._still:
            from PIL import Image

            Image.fromarray(as_bytes(frame)).save(self._file.temporary, format="PNG")
            return
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = frame.shape[1:]
        if height % 2 or width % 2:
            frame = F.pad(frame.unsqueeze(0), (0, width % 2, 0, height % 2), mode="replicate")[0]
        if self._container is None:
            self._open(frame)
        picture = av.VideoFrame.from_ndarray(as_bytes(frame), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT_WRITING,
        )
        picture.pts, picture.time_base = self.frames, 1 / self._rate
        picture.color_primaries = picture.color_trc = _BT709
        self._container.mux(self._stream.encode(picture))
        if self._audio is not None:
            self._audio.copy_until(self._container, (self.frames + 1) / self._rate)

    def _open(self, frame: Tensor) -> None:
        import av

        assert self._size is not None
        height, width = int(frame.shape[1]), int(frame.shape[2])
        if (height, width) != self._size:
            self.notes.append(
                f"padded from {self._size[1]}x{self._size[0]} to {width}x{height}: H.264 in yuv420p needs even sizes"
            )
        # faststart: the index in front, so that a browser plays before it has the whole file.
        self._container = av.open(str(self._file.temporary), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = stream = self._container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = 1 / self._rate
        context = stream.codec_context
        context.thread_count = 1
        context.color_range, context.colorspace = _LIMITED, _BT709
        context.color_primaries = context.color_trc = _BT709
        stream.options = {"crf": str(self._crf), "preset": "medium", "x264-params": _REPEATABLE}
        if self._audio_from is not None:
            self._audio = AudioCopy(self._audio_from)
            self._audio.attach(self._container)

    def finish(self) -> None:
        """Complete and check the temporary without putting it in place, so that several files can appear together.

        `close` is what follows; `notes` is complete from here on. Raises `VideoError` as `close`.
        """
        if self._finished or self._closed:
            return
        try:
            if not self.frames:
                raise VideoError(f"{self.path}: no frame was written, so no file either")
            with failures_told(self.path):
                self._finish()
        except BaseException:
            self.abort()
            raise
        self._finished = True

    def close(self) -> None:
        """Finish the file and put it in place; raises `VideoError` if no frame was written or the disk is full."""
        if self._closed:
            return
        self.finish()
        try:
            self._file.commit()
        finally:
            self.abort()

    def _finish(self) -> None:
        if self._container is None:
            if self._audio_from is not None:
                self.notes.append("audio dropped: a PNG has none")
            return
        self._container.mux(self._stream.encode(None))
        audio, length = self._audio, self.frames / self._rate
        if audio is not None:
            audio.finish(self._container, length)
            if audio.problem is not None:
                self.notes.append(f"audio dropped: {audio.problem}")
            elif audio.trimmed:
                self.notes.append(f"audio cut to the {float(length):.2f} seconds of the video")
        self._container.close()
        self._container = None
        # The last bytes are flushed on closing, where a full disk can pass without an error.
        try:
            found = inspect(self._file.temporary, ReadLimits(max_frames=self.frames, max_pixels=2**31)).info.frames
        except VideoError:
            found = 0
        if found != self.frames:
            raise VideoError(f"{self.path}: not all of {self.frames} frames reached the disk; is it full?")

    def abort(self) -> None:
        """Drop everything not yet in place and remove the temporary; the target stays as it was."""
        self._closed = True
        container, self._container, self._stream = self._container, None, None
        if self._audio is not None:
            self._audio.close()
        if container is not None:
            # Closing writes the trailer, which may fail for the very reason that brought us here.
            with contextlib.suppress(VideoError), failures_told(self.path):
                container.close()
        self._file.discard()

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def write_clip(
    clip: VideoClip,
    path: str | os.PathLike[str],
    *,
    crf: float = 12,
    audio_from: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write `clip` to an `.mp4` (or a still to a `.png`) with its `<stem>.json`, and return the writer's notes.

    Each of the two files appears whole or not at all; the sidecar is made ready first and put in place last.

    Raises:
        VideoError: as `FrameWriter`, or a `.png` for more than one frame.
    """
    path = Path(path)
    if path.suffix.lower() == ".png" and len(clip) > 1:
        raise VideoError(f"{path}: a PNG holds one frame, the clip has {len(clip)}; write an .mp4")
    with (
        FrameWriter(path, clip.fps, crf=crf, audio_from=audio_from) as writer,
        write_text(sidecar_path(path), sidecar_text(clip)) as sidecar,
    ):
        for frame in clip.frames:
            writer.write(frame)
        writer.close()
        sidecar.commit()
    return writer.notes
