"""By how many frames an output is shifted against its reference, found on small grey pictures of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..video import FrameReader
from .alignment import FAR, REACH, Alignment, aligned_blocks

__all__ = ["OffsetFinder", "Shift", "time_aligned"]

SIDE = 48
"""Pixels of the longer side of the pictures: enough to see things move, too few for detail that a refiner changes."""
BETTER = 0.95
"""Share of the distance without an offset that another must stay below: a still clip fits everywhere."""

MOST = 100.0
"""Times as far apart that are told: of equal clips it would be any number."""


@dataclass(frozen=True)
class Shift:
    """What was found.

    Attributes:
        offset: as in `Alignment`; 0 where no other is better.
        by_default: distance without an offset over that with it, at least 1, at most `MOST`.
    """

    offset: int
    by_default: float

    @property
    def far(self) -> bool:
        """Whether the clips are badly aligned without it."""
        return self.offset != 0 and self.by_default >= FAR


class OffsetFinder:
    """Takes in aligned frames, and says at which offset they would fit best."""

    def __init__(self) -> None:
        self._pictures: tuple[list[Tensor], list[Tensor]] = ([], [])

    def add(self, reference: Tensor, output: Tensor) -> None:
        """The next aligned frames, both `(n, 3, H, W)`."""
        for pictures, frames in zip(self._pictures, (reference, output), strict=True):
            height, width = frames.shape[-2:]
            scale = min(1.0, SIDE / max(height, width))
            size = max(1, round(height * scale)), max(1, round(width * scale))
            pictures.append(F.adaptive_avg_pool2d(frames.mean(1, keepdim=True), size))

    def found(self) -> Shift:
        """The best offset that leaves at least half of the frames a partner, and 2."""
        if not self._pictures[0]:
            return Shift(0, 1.0)
        reference, output = (torch.cat(pictures).flatten(1).double() for pictures in self._pictures)
        # A refiner may make a clip brighter; it does not make things move.
        reference, output = (each - each.mean(1, keepdim=True) for each in (reference, output))
        count = len(output)
        distance: dict[int, float] = {}
        for offset in range(-REACH, REACH + 1):
            first, last = max(0, -offset), min(count, count - offset)
            if offset == 0 or last - first >= max(2, (count + 1) // 2):
                pairs = reference[first + offset : last + offset] - output[first:last]
                distance[offset] = float(pairs.square().mean())
        best = min(distance, key=lambda offset: (distance[offset], abs(offset)))
        if distance[best] >= BETTER * distance[0]:
            return Shift(0, 1.0)
        return Shift(best, min(MOST, distance[0] / max(distance[best], distance[0] / MOST)))


def time_aligned(reference: FrameReader, output: FrameReader, alignment: Alignment, block: int) -> Alignment:
    """`alignment` at the offset at which the clips fit best; decodes both once.

    Args:
        reference, output: opened anew, as they cannot be read twice.
        alignment: how they are compared by default.
        block: frames at a time.
    """
    finder = OffsetFinder()
    for before, after in aligned_blocks(reference, output, alignment, block):
        finder.add(before, after)
    shift = finder.found()
    return alignment.shifted(shift.offset, shift.by_default, output.frames)
