"""The clips of an experiment or a sweep: what refiners are given, whole or in pieces, and what it was before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ... import video
from ...assets import demo_clip
from ...files import VIDEO_SUFFIXES
from .config import ClipConfig, Pieces

__all__ = ["InputClip", "Source", "load_clips", "sources"]


@dataclass(frozen=True, eq=False)
class InputClip:
    """A clip, or a piece of one.

    Attributes:
        name: unique in its experiment.
        frames: what a refiner is given; `(F, 3, H, W)` in [0, 1], float32.
        original: what it should have been, likewise; None where that is not known.
        source: the clip it is a piece of.
        fps: frames per second.
        prompt: of the clip.

    Raises:
        ValueError: the original has another shape.
    """

    name: str
    frames: Tensor
    original: Tensor | None = None
    source: str = ""
    fps: float = 8.0
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.original is not None and self.original.shape != self.frames.shape:
            raise ValueError(
                f"{self.name}: the clip is {tuple(self.frames.shape)} and its original {tuple(self.original.shape)}; "
                "they must have the same frames and size"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that a number can depend on."""
        found = hashlib.sha256(str(tuple(self.frames.shape)).encode())
        for frames in (self.frames, self.original):
            found.update(b"none" if frames is None else frames.contiguous().numpy().tobytes())
        return found.hexdigest()


def _read(name: str, path: Path, original: Path | None, max_frames: int | None, height: int | None) -> InputClip:
    clip = video.read_clip(path, max_frames=max_frames, height=height)
    before = None if original is None else video.read_clip(original, max_frames=max_frames, height=height).frames
    return InputClip(name, clip.frames, before, name, clip.fps, clip.prompt)


def _videos_in(folder: Path) -> list[Path]:
    """The videos of a folder in order of name; ValueError where it holds none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise ValueError(f"clips: {folder} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return paths


def load_clips(clips: Path | None, originals: Path | None, frames: int, height: int | None = None) -> list[InputClip]:
    """The first `frames` frames of every video in the folder `clips`, at `height`; None is the bundled clip.

    Raises:
        ValueError: not a folder, no video in it, an original that is missing or of another shape.
    """
    if clips is None:
        return [_read("demo", *demo_clip(), frames, height)]
    if not clips.is_dir():
        raise ValueError(f"clips: {clips} is not a folder; give one with videos in it, or `demo` for the bundled clip")
    paths = _videos_in(clips)
    stems = [path.stem for path in paths]
    for path in paths:
        if stems.count(path.stem) > 1:
            raise ValueError(f"clips: {clips} holds two videos named {path.stem}; their rows could not be told apart")
        if originals is not None and not (originals / path.name).is_file():
            raise ValueError(f"originals: {originals} has no {path.name}; every clip needs its original")
    return [
        _read(path.stem, path, originals / path.name if originals is not None else None, frames, height)
        for path in paths
    ]


@dataclass(frozen=True)
class Source:
    """One clip of the configuration, not read yet.

    Attributes:
        name: unique.
        path, original: files.
        config: how it is read and cut.
        digests: SHA-256 of the files.
        pieces: names of what it is cut into, in order; its own name where it is not.
    """

    name: str
    path: Path
    original: Path | None
    config: ClipConfig
    digests: dict[str, str]
    pieces: tuple[str, ...]

    def read(self) -> Iterator[InputClip]:
        """The clip, or its pieces.

        Raises:
            ValueError: it cannot be read, or its original does not match it.
        """
        whole = _read(self.name, self.path, self.original, self.config.max_frames, self.config.height)
        if self.config.pieces is None:
            yield whole
            return
        for name, (frames, rows, columns) in _cuts(self.name, whole.frames.shape, self.config.pieces):
            original = None if whole.original is None else whole.original[frames, :, rows, columns]
            yield replace(whole, name=name, frames=whole.frames[frames, :, rows, columns], original=original)


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


def _of_folder(clip: ClipConfig, base: Path) -> list[ClipConfig]:
    """`clip` itself, or where it names a folder one clip for each of its videos, in order of name."""
    folder = base / clip.path
    if clip.path == "demo" or not folder.is_dir():
        return [clip]
    if clip.name is not None:
        raise ValueError(f"clips: {clip.path} is a folder, so {clip.name!r} cannot name all of it; leave `name` out")
    names = [path.name for path in _videos_in(folder)]
    originals = clip.original
    return [
        clip.model_copy(
            update={
                "path": str(Path(clip.path) / name),
                "original": None if originals is None else str(Path(originals) / name),
            }
        )
        for name in names
    ]


def each_clip(clips: list[ClipConfig], base: Path) -> list[ClipConfig]:
    """Every clip of a configuration, a folder being each of its videos.

    Raises:
        ValueError: a folder that holds none, or that is given one name.
    """
    return [one for given in clips for one in _of_folder(given, base)]


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
        pieces = tuple(piece for piece, _ in _cuts(name, shape, clip.pieces)) if clip.pieces is not None else (name,)
        digests = {"clip": _digest(path), **({"original": _digest(original)} if original is not None else {})}
        found.append(Source(name, path, original, clip, digests, pieces))
    return found


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give the path of a video") from None
