"""The clips of a sweep: what refiners are given, and what it was before it was degraded, where that is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ...assets import demo_clip
from ...video import read_clip

__all__ = ["SweepClip", "load_clips"]

SUFFIXES = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True, eq=False)
class SweepClip:
    """`frames` is what a refiner is given, `original` what it should have been; `(F, 3, H, W)` alike, in [0, 1]."""

    name: str
    frames: Tensor
    original: Tensor | None = None

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


def load_clips(clips: Path | None, originals: Path | None, frames: int, height: int | None = None) -> list[SweepClip]:
    """The first `frames` frames of every video in the folder `clips`, at `height`; None is the bundled clip.

    Raises:
        ValueError: not a folder, no video in it, an original that is missing or of another shape.
    """
    if clips is None:
        degraded, original = (read_clip(path, max_frames=frames, height=height).frames for path in demo_clip())
        return [SweepClip("demo", degraded, original)]
    if not clips.is_dir():
        raise ValueError(f"clips: {clips} is not a folder; give one with videos in it, or `demo` for the bundled clip")
    paths = sorted(path for path in clips.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"clips: {clips} holds no video ({', '.join(sorted(SUFFIXES))})")
    stems = [path.stem for path in paths]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ValueError(f"clips: {clips} holds two videos named {stem}; their rows could not be told apart")
    found = []
    for path in paths:
        given = read_clip(path, max_frames=frames, height=height).frames
        if originals is None:
            found.append(SweepClip(path.stem, given))
            continue
        if not (originals / path.name).is_file():
            raise ValueError(f"originals: {originals} has no {path.name}; every clip needs its original")
        pristine = read_clip(originals / path.name, max_frames=frames, height=height).frames
        found.append(SweepClip(path.stem, given, pristine))
    return found
