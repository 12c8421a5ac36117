"""Clips of a configuration → units: whole clips, or the pieces they are cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ... import video
from ...assets import demo_clip
from .config import ClipConfig, Pieces

__all__ = ["Source", "Unit", "sources"]


@dataclass(frozen=True, eq=False)
class Unit:
    """`frames` (and `original`) `(F, 3, H, W)` in [0, 1], float32; `source` is the clip they are a part of."""

    name: str
    source: str
    frames: Tensor
    original: Tensor | None
    fps: float
    prompt: str | None


@dataclass(frozen=True)
class Source:
    """One clip of the configuration, not read yet.

    Attributes:
        name: unique.
        path, original: files.
        config: how it is read and cut.
        digests: SHA-256 of the files.
        units: names of its units, in order.
    """

    name: str
    path: Path
    original: Path | None
    config: ClipConfig
    digests: dict[str, str]
    units: tuple[str, ...]

    def read(self) -> Iterator[Unit]:
        """The clip's units.

        Raises:
            ValueError: it cannot be read, or its original does not match it.
        """
        clip = video.read_clip(self.path, max_frames=self.config.max_frames, height=self.config.height)
        original = None
        if self.original is not None:
            original = video.read_clip(
                self.original, max_frames=self.config.max_frames, height=self.config.height
            ).frames
            if original.shape != clip.frames.shape:
                raise ValueError(
                    f"{self.original} is {tuple(original.shape)}, {self.path} {tuple(clip.frames.shape)} (frames, 3, "
                    "height, width); an original must match its clip"
                )
        if self.config.pieces is None:
            yield Unit(self.name, self.name, clip.frames, original, clip.fps, clip.prompt)
            return
        for name, (frames, rows, columns) in _cuts(self.name, clip.frames.shape, self.config.pieces):
            part = original[frames, :, rows, columns] if original is not None else None
            yield Unit(name, self.name, clip.frames[frames, :, rows, columns], part, clip.fps, clip.prompt)


def _cuts(name: str, shape: tuple[int, ...], pieces: Pieces) -> Iterator[tuple[str, tuple[slice, slice, slice]]]:
    """Names and places of the pieces of a clip of `shape`; what does not fill a piece is left out."""
    count, _, height, width = shape
    frames = pieces.frames or count
    rows, columns = height // pieces.rows, width // pieces.columns
    if frames > count or min(rows, columns) < 16:
        raise ValueError(
            f"clip {name} has {count} frames of {width}×{height}: too small for pieces of {frames} frames in "
            f"{pieces.rows} rows and {pieces.columns} columns (at least 16 pixels each); use fewer"
        )
    for first in range(0, count - frames + 1, frames):
        for row in range(pieces.rows):
            for column in range(pieces.columns):
                place = (
                    slice(first, first + frames),
                    slice(row * rows, (row + 1) * rows),
                    slice(column * columns, (column + 1) * columns),
                )
                yield f"{name}-f{first:04d}-r{row}-c{column}", place


def sources(clips: list[ClipConfig], base: Path) -> list[Source]:
    """Every clip of a configuration, checked to be there but not decoded.

    Args:
        clips: from the configuration.
        base: folder that paths are relative to.

    Raises:
        ValueError: a file that is missing or no video, or pieces that do not fit.
    """
    found: list[Source] = []
    for clip in clips:
        path, original = base / clip.path, base / clip.original if clip.original else None
        if clip.path == "demo":
            path, demo_original = demo_clip()
            original = original or demo_original
        name = clip.name or "".join(c if c.isalnum() or c in "._-" else "_" for c in path.stem).strip("._-") or "clip"
        same = sum(other.name == name or other.name.startswith(f"{name}.") for other in found)
        name = f"{name}.{same + 1}" if same else name
        with video.FrameReader(path, max_frames=clip.max_frames, height=clip.height) as reader:
            shape = (reader.frames, 3, reader.height, reader.width)
        units = tuple(unit for unit, _ in _cuts(name, shape, clip.pieces)) if clip.pieces is not None else (name,)
        digests = {"clip": _digest(path), **({"original": _digest(original)} if original is not None else {})}
        found.append(Source(name, path, original, clip, digests, units))
    return found


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give the path of a video") from None
