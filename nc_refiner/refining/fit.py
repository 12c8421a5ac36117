"""Makes a window of frames fit what an adapter takes, and undoes it afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..adapters.base import Requirements
from ..naming import counted

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """How a window was enlarged: `frames`, `bottom`, `right` are what was added by repeating the edge."""

    frames: int
    bottom: int
    right: int

    def undo(self, frames: Tensor) -> Tensor:
        """Cut what was added off again; `(F, 3, H, W)`."""
        count, _, height, width = frames.shape
        return frames[: count - self.frames, :, : height - self.bottom, : width - self.right]

    def notes(self) -> list[str]:
        """What a receipt should say about it; empty where nothing was added."""
        found = []
        if self.bottom or self.right:
            more = f"{counted(self.right, 'column')} and {counted(self.bottom, 'row')}"
            found.append(f"padded by {more} to fit the model, cut off again")
        if self.frames:
            found.append(f"padded by {counted(self.frames, 'repeated frame')} to fit the model, cut off again")
        return found


def _missing(side: int, multiple: int, offset: int, least: int) -> int:
    """What `side` lacks to be at least `least` and a multiple, counted from `offset`."""
    wanted = max(side, least)
    return wanted + (offset - wanted) % multiple - side


def fit(frames: Tensor, requirements: Requirements) -> tuple[Tensor, Fit]:
    """Repeat the last frame, row and column of `(F, 3, H, W)` until the adapter's requirements are met.

    Raises:
        ValueError: the clip is larger than the adapter takes.
    """
    count, _, height, width = frames.shape
    needs = requirements
    bottom, right = (
        _missing(*side)
        for side in zip((height, width), needs.size_multiple, needs.size_offset, needs.min_size, strict=True)
    )
    most = needs.max_size
    if most is not None and (height + bottom > most[0] or width + right > most[1]):
        raise ValueError(
            f"the clip is {width}×{height} and this refiner takes at most {most[1]}×{most[0]}; scale it down first "
            "(the option size does)"
        )
    how = Fit(max(0, needs.min_frames - count), bottom, right)
    if how.bottom or how.right:
        frames = F.pad(frames, (0, how.right, 0, how.bottom), mode="replicate")
    if how.frames:
        last = frames[-1:].expand(how.frames, -1, -1, -1)
        frames = F.pad(frames, (0, 0, 0, 0, 0, 0, 0, how.frames))
        frames[count:] = last
    return frames, how
