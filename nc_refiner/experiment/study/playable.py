"""Clips as browsers play them, with nothing in them that tells where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import video

__all__ = ["Playable", "playable"]

QUALITY = 8
"""x264's crf of clips that have to be converted: no eye tells them from the source."""
# What encoders write into every file; anything else may name an arm.
HARMLESS = {"major_brand", "minor_version", "compatible_brands", "language", "vendor_id"}
USUAL = {"encoder": ("Lavf", "Lavc"), "handler_name": ("VideoHandler",)}


@dataclass(frozen=True)
class Playable:
    """A file that can be served, with its frames per second, frames, width and height in pixels."""

    path: Path
    fps: float
    frames: int
    width: int
    height: int
    converted: bool


def playable(path: Path, folder: Path, name: str) -> Playable:
    """`path` itself if it is plain H.264 in an mp4 without audio and comments, else a copy of it in `folder`.

    Args:
        path: a video.
        folder: where a converted copy goes, as `name`.mp4.
        name: must not say where the clip is from.

    Raises:
        ValueError: it cannot be read as a video, or is a still.
    """
    info = video.probe(path)
    if info.still:
        raise ValueError(f"{path}: is a picture; a study shows videos")
    converted = not _plain(path)
    if converted:
        target = folder / f"{name}.mp4"
        # Only what was read is written: no audio, no metadata, rotation applied, even sizes.
        with (
            video.FrameReader(path, exact_colour=True) as reader,
            video.FrameWriter(target, reader.info.fps, crf=QUALITY) as writer,
        ):
            for frame in reader:
                writer.write(frame)
        info, path = video.probe(target), target
    return Playable(path, info.fps, info.frames, info.width, info.height, converted)


def _plain(path: Path) -> bool:
    import av

    with av.open(str(path)) as container:
        if "mp4" not in container.format.name or len(container.streams) != 1 or path.suffix.lower() != ".mp4":
            return False
        stream = container.streams[0]
        codec = stream.codec_context
        said = [*container.metadata.items(), *stream.metadata.items()]
        silent = all(key in HARMLESS or value.startswith(USUAL.get(key, ())) for key, value in said)
        return codec is not None and codec.name == "h264" and codec.pix_fmt == "yuv420p" and silent
