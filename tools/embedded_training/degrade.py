"""What a refiner's input looks like: small, soft and compressed; stated once, for the demo clip and the evaluation."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nc_refiner.clip import VideoClip
from nc_refiner.video import read_clip
from nc_refiner.video.write import FrameWriter

SCALE, BLUR_SIGMA, CRF = 0.625, 0.5, 24


def degrade(frames: Tensor, fps: float = 8.0) -> Tensor:
    """5/8 of the size (antialiased bicubic), Gaussian blur of σ = 0.5 small pixels, H.264 at CRF 24, and back up.

    Args:
        frames: `(F, 3, H, W)` in [0, 1], H and W multiples of 16.

    Returns:
        Frames of the same shape.
    """
    size = frames.shape[-2:]
    small = F.interpolate(frames, scale_factor=SCALE, mode="bicubic", antialias=True).clamp(0, 1)
    axis = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-(axis**2) / (2 * BLUR_SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(small, (3, 3, 3, 3), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 7)), kernel.view(1, 1, 7, 1))[:, 0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.mp4"
        with FrameWriter(path, fps, crf=CRF) as writer:
            writer.write(VideoClip(soft.unflatten(0, (len(frames), 3)).clamp(0, 1)).frames)
        coded = read_clip(path).frames
    return F.interpolate(coded, size=size, mode="bicubic").clamp(0, 1)
