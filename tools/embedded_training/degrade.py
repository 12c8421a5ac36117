"""What a refiner's input looks like: small, soft and compressed; stated once, for the demo clip and the evaluation.

These two are the yardstick of the model card. They do not change; a third one is a new entry.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nc_refiner.clip import VideoClip
from nc_refiner.video import read_clip
from nc_refiner.video.write import FrameWriter


@dataclass(frozen=True)
class Degradation:
    """Shrunk by `scale` (antialiased bicubic), Gaussian blur of `blur_sigma` small pixels, H.264 at `crf`, back up."""

    scale: float
    blur_sigma: float
    crf: int

    def __str__(self) -> str:
        return f"size × {self.scale:g}, blur σ = {self.blur_sigma:g} small pixels, H.264 at CRF {self.crf}, back up"


MILD = Degradation(0.625, 0.5, 24)
HEAVY = Degradation(0.5, 0.6, 26)
DEGRADATIONS = {"mild": MILD, "heavy": HEAVY}


def degrade(frames: Tensor, fps: float = 8.0, how: Degradation = MILD) -> Tensor:
    """What a refiner would be given of `frames`.

    Args:
        frames: `(F, 3, H, W)` in [0, 1], H and W multiples of 16.
        fps: of the coded video.
        how: the degradation.

    Returns:
        Frames of the same shape.
    """
    size = frames.shape[-2:]
    small = F.interpolate(frames, scale_factor=how.scale, mode="bicubic", antialias=True).clamp(0, 1)
    soft = _blurred(small, how.blur_sigma)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.mp4"
        with FrameWriter(path, fps, crf=how.crf) as writer:
            writer.write(VideoClip(soft.clamp(0, 1)).frames)
        coded = read_clip(path).frames
    return F.interpolate(coded, size=size, mode="bicubic").clamp(0, 1)


def soften(frames: Tensor, factor: float, blur_sigma: float) -> Tensor:
    """`frames`, `(F, C, H, W)` of any range, as a clip of a `factor` times smaller size shows them: shrunk, blurred by
    `blur_sigma` small pixels, back up. No coding: this is for training, where noise covers what coding leaves."""
    size = frames.shape[-2:]
    small_size = [max(8, round(side / factor)) for side in size]
    small = F.interpolate(frames, size=small_size, mode="bicubic", antialias=True)
    return F.interpolate(_blurred(small, blur_sigma), size=size, mode="bicubic")


def _blurred(frames: Tensor, sigma: float) -> Tensor:
    axis = torch.arange(-3, 4, dtype=frames.dtype, device=frames.device)
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(frames, (3, 3, 3, 3), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 7)), kernel.view(1, 1, 7, 1))[:, 0]
    return soft.unflatten(0, frames.shape[:2])
