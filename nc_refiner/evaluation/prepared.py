"""Frames made ready for several metrics at once: checked, and what they share computed once."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BLOCK", "Prepared", "PreparedPair", "checked_frames", "luma", "prepared", "prepared_pair"]

BLOCK = 16


def checked_frames(name: str, frames: Tensor) -> Tensor:
    """`frames` as float32, or float64 where they are that; ValueError unless `(F, 3, H, W)`, not empty and finite."""
    if frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape) == 0:
        raise ValueError(f"{name} must be (F, 3, H, W) with at least one frame and pixel, found {tuple(frames.shape)}")
    if not bool(torch.isfinite(frames).all()):
        raise ValueError(f"{name} holds NaN or infinite values; metrics need finite pixels in [0, 1]")
    # Bytes wrap when they are subtracted.
    return frames if frames.dtype in (torch.float32, torch.float64) else frames.float()


def luma(frames: Tensor) -> Tensor:
    """BT.601 luma `(F, 1, H, W)` of RGB frames `(F, 3, H, W)`."""
    red, green, blue = frames[:, 0:1], frames[:, 1:2], frames[:, 2:3]
    return (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


class Prepared:
    """Checked frames `(F, 3, H, W)`, and what metrics need of them."""

    def __init__(self, name: str, frames: Tensor):
        self.frames = checked_frames(name, frames)

    @cached_property
    def luma(self) -> Tensor:
        """BT.601 luma `(F, 1, H, W)`."""
        return luma(self.frames)

    @cached_property
    def block_means(self) -> Tensor:
        """Means of 16-pixel blocks `(F, 3, ⌈H/16⌉, ⌈W/16⌉)`; blocks cut by the border average what they hold."""
        return F.avg_pool2d(self.frames, BLOCK, ceil_mode=True)


class PreparedPair:
    """A reference and an output of one shape; ValueError where their shapes differ."""

    def __init__(self, reference: Prepared, output: Prepared):
        if reference.frames.shape != output.frames.shape:
            raise ValueError(
                f"reference is {tuple(reference.frames.shape)} and output {tuple(output.frames.shape)}; "
                "align frames and size first"
            )
        self.reference, self.output = reference, output

    @cached_property
    def difference(self) -> Tensor:
        """Output minus reference, `(F, 3, H, W)`."""
        return self.output.frames - self.reference.frames

    @cached_property
    def squared_error(self) -> Tensor:
        """Mean squared error of each frame, `(F,)` float64."""
        return self.difference.square().mean(dim=(1, 2, 3), dtype=torch.float64)


def prepared(name: str, frames: Tensor | Prepared) -> Prepared:
    """`frames`, made ready unless they are; `name` is for the ValueError of `checked_frames`."""
    return frames if isinstance(frames, Prepared) else Prepared(name, frames)


def prepared_pair(reference: Tensor | PreparedPair, output: Tensor | None = None) -> PreparedPair:
    """Both, made ready unless they are; errors as `checked_frames` and `PreparedPair`."""
    if isinstance(reference, PreparedPair):
        return reference
    assert output is not None
    return PreparedPair(Prepared("reference", reference), Prepared("output", output))
