"""The drift map: where in the picture and when in the clip the content changed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..frequency import LowPass
from .prepared import prepared_pair

__all__ = ["DriftMap"]

COLUMNS, BINS = 24, 240
CUTOFF = 0.5


class DriftMap:
    """Mean squared low-frequency difference (what MSE_low averages) per block of the picture and bin of time.

    Args:
        frames: frames that will come; up to 240 each have a bin, more share them evenly.
        height, width: of the frames; the longer side is cut into at most 24 blocks, all square but those at the border.

    Attributes:
        bins, rows, columns: size of the map.
    """

    def __init__(self, frames: int, height: int, width: int):
        self._frames, self._seen = frames, 0
        self._side = -(-max(height, width) // COLUMNS)
        self.rows, self.columns = -(-height // self._side), -(-width // self._side)
        self.bins = min(frames, BINS)
        self._sums = torch.zeros(self.bins, self.rows, self.columns, dtype=torch.float64)
        self._counts = torch.zeros(self.bins, dtype=torch.float64)
        self._low_pass = LowPass(height, width, CUTOFF)

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Take in the next frames, `(n, 3, H, W)` in [0, 1], both alike. ValueError for NaN or a mismatch."""
        difference = prepared_pair(reference, output).difference
        error = self._low_pass(difference).square().mean(dim=1, keepdim=True)
        for block in F.avg_pool2d(error, self._side, ceil_mode=True)[:, 0]:
            place = self._seen * self.bins // self._frames
            self._sums[place] += block
            self._counts[place] += 1
            self._seen += 1

    def values(self) -> Tensor:
        """Root of the mean squared difference, `(bins, rows, columns)` float64 in [0, 1]."""
        return (self._sums / self._counts.clamp_min(1)[:, None, None]).sqrt()
