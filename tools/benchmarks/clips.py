"""The evaluation clips: a degraded input beside the original it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedded_training.degrade import degrade
from torch import Tensor

from nc_refiner.assets import demo_clip
from nc_refiner.clip import VideoClip
from nc_refiner.video import read_clip

__all__ = ["EvaluationClip", "demo", "from_folder"]

SUFFIXES = {".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
FRAMES, HEIGHT, CODEC_MULTIPLE = 8, 96, 4


@dataclass(frozen=True, eq=False)
class EvaluationClip:
    """`degraded` is what a refiner is given; `original`, `(F, 3, H, W)` alike, is what it should have been."""

    name: str
    degraded: VideoClip
    original: Tensor


def demo(small: bool = False, frames: int = FRAMES, height: int = HEIGHT) -> EvaluationClip:
    """The bundled demo: as shipped, or its original made `small` (8 frames of height 96) and degraded at that size."""
    degraded_path, original_path = demo_clip()
    if small:
        return _prepare(original_path, "demo", frames, height)
    return EvaluationClip("demo", read_clip(degraded_path), read_clip(original_path).frames)


def from_folder(folder: Path, frames: int = FRAMES, height: int = HEIGHT) -> list[EvaluationClip]:
    """Every video in `folder`: the first `frames` at `height` pixels, cut to a size the codec takes, degraded.

    Raises:
        ValueError: not a folder, or no video in it.
    """
    if not folder.is_dir():
        raise ValueError(f"--clips {folder} is not a folder; give one with videos in it")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"--clips {folder} holds no video ({', '.join(sorted(SUFFIXES))})")
    return [_prepare(path, path.stem, frames, height) for path in paths]


def _prepare(path: Path, name: str, frames: int, height: int) -> EvaluationClip:
    clip = read_clip(path, max_frames=frames, height=height)
    rows, columns = (side - side % CODEC_MULTIPLE for side in clip.frames.shape[-2:])
    original = clip.frames[..., :rows, :columns].contiguous()
    return EvaluationClip(name, VideoClip(degrade(original, clip.fps), clip.fps), original)
