"""Copying the audio of one file into another, packet by packet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import VideoError
from .limits import ReadLimits
from .probe import open_input, video_stream

__all__ = ["AudioCopy"]

# What players accept in an mp4; the rest would need another encoding, which is a person's decision.
_MP4_CODECS = {"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "flac", "alac"}


class AudioCopy:
    """The first audio stream of `path`, handed out up to a time in the video; never raises for a bad source.

    Attributes:
        problem: why there is nothing to copy, or why copying stopped; None while all is well.
        trimmed: whether audio was left behind the end of the video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.problem: str | None = None
        self.trimmed = False
        self._opened: Any = None
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None
        self._start = Fraction(0)
        self._output: Any = None
        try:
            if not self.path.is_file():
                raise VideoError(f"{self.path} is not a file")
            self._open()
        except VideoError as error:
            self.problem = str(error)
            self.close()

    def _open(self) -> None:
        opened = open_input(self.path, ReadLimits())
        container = opened.__enter__()
        self._opened = opened
        if not container.streams.audio:
            raise VideoError(f"{self.path} has no audio")
        self.stream = stream = container.streams.audio[0]
        name = stream.codec_context.name if stream.codec_context is not None else "an unknown codec"
        if name not in _MP4_CODECS:
            raise VideoError(f"{self.path} holds {name}, which cannot be copied into an mp4")
        if container.streams.video:
            video = video_stream(self.path, container)
            self._start = (video.start_time or 0) * (video.time_base or Fraction(0))
        self._packets = container.demux(stream)

    def attach(self, output: Any) -> None:
        """Add the stream to the PyAV container `output`, before anything is written to it."""
        if self.problem is None:
            from av.error import FFmpegError

            try:
                self._output = output.add_stream_from_template(self.stream)
            except (FFmpegError, ValueError) as error:
                self.problem = f"{self.path}: its stream cannot be copied into an mp4 ({error})"

    def copy_until(self, output: Any, seconds: Fraction) -> None:
        """Write the packets that start before `seconds` of video to `output`."""
        from av.error import ArgumentError, FFmpegError

        while self.problem is None:
            if self._waiting is None:
                try:
                    self._waiting = next(self._packets, None)
                except FFmpegError as error:
                    self.problem = f"{self.path} is damaged ({error.strerror})"
                    return
            packet = self._waiting
            if packet is None:
                return
            if packet.pts is not None and packet.dts is not None and packet.size:
                base = packet.time_base
                begins = packet.pts * base - self._start
                if begins >= seconds:
                    return
                shift = round(self._start / base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._output
                try:
                    output.mux(packet)
                except ArgumentError:
                    # The container's objection to these packets (to their times, say) is no reason to lose the video.
                    self.problem = f"from {float(begins):.2f} seconds on, {self.path} cannot be copied into an mp4"
                    return
            self._waiting = None

    def finish(self, output: Any, seconds: Fraction) -> None:
        """Write what is left before `seconds`, the end of the video."""
        self.copy_until(output, seconds)
        self.trimmed = self._waiting is not None

    def close(self) -> None:
        """Close the source."""
        opened, self._opened, self._waiting, self._packets = self._opened, None, None, iter(())
        if opened is not None:
            opened.__exit__(None, None, None)
