"""`VideoClip`: what travels between stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

__all__ = ["VideoClip"]


@dataclass(frozen=True, eq=False)
class VideoClip:
    """Frames and what is known of them.

    Attributes:
        frames: float32 `(F, 3, H, W)`, RGB, values in [0, 1], on the CPU. A still image has `F = 1`.
        fps: frames per second of playback, > 0.
        prompt: the text the clip was made from, if any.
        seed: the seed the clip was made with, if any.
        history: one line per stage that has touched the clip, oldest first.

    Raises:
        TypeError: `frames` is not a floating-point tensor.
        ValueError: wrong shape, no frame, values that are not finite or lie outside [0, 1], or `fps` not above 0.
    """

    frames: Tensor
    fps: float = 8.0
    prompt: str | None = None
    seed: int | None = None
    history: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        frames = self.frames
        if not isinstance(frames, Tensor) or not frames.is_floating_point():
            found = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
            raise TypeError(f"frames must be a float tensor in [0, 1], found {found}; divide uint8 frames by 255")
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be (F, 3, H, W), found {tuple(frames.shape)}")
        if min(frames.shape) == 0:
            raise ValueError(f"the clip has no frame or no pixel: {tuple(frames.shape)}")
        low, high = float(frames.min()), float(frames.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("frames hold NaN or infinite values; a clip's values must be finite, in [0, 1]")
        if low < 0 or high > 1:
            raise ValueError(f"frames must lie in [0, 1], found {low:.4g} to {high:.4g}; scale or clamp them first")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}; it must be above 0")
        object.__setattr__(self, "frames", frames.detach().to("cpu", torch.float32))

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.frames.shape[2])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.frames.shape[3])

    def with_frames(self, frames: Tensor, note: str) -> VideoClip:
        """The same clip with other frames and `note` added to its history."""
        return replace(self, frames=frames, history=(*self.history, note))
