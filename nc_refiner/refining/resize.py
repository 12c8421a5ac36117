"""Frames at another size than they came: for refiners that take the place of a super-resolution stage."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .settings import RefineSettings

__all__ = ["bicubic", "output_size", "resized"]


def output_size(settings: RefineSettings, height: int, width: int) -> tuple[int, int]:
    """Height and width, in pixels, at which a clip of `height` × `width` is refined."""
    if settings.size is not None:
        return settings.size
    factor = settings.scale or 1.0
    return round(height * factor), round(width * factor)


def bicubic(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames `(F, 3, H, W)` in [0, 1] at another size: antialiased bicubic, clamped to [0, 1]."""
    return F.interpolate(frames, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def resized(frames: Tensor, settings: RefineSettings) -> Tensor:
    """Frames `(…, 3, H, W)` in [0, 1] at `output_size`: antialiased bicubic, clamped to [0, 1]; untouched where the
    size stays."""
    height, width = (int(side) for side in frames.shape[-2:])
    size = output_size(settings, height, width)
    if size == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    return bicubic(flat, size).reshape(*frames.shape[:-2], *size)
