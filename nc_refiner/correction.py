"""What calibration takes back of an estimate: which band, where in the picture, under which objective."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .calibration_options import NoiseCalibration, Objective
from .frequency import LowPass, TimeLowPass

__all__ = ["DECAY", "Correction"]

DECAY = 1.25
"""Of the steps that keep colours safe. Above 1 their sum is finite: however many follow, they add a bounded amount."""


class Correction:
    """`m·L_ν(d) + (1 − m)·L_ν_out(d)`, also low-pass in time, of a difference `d = x̂₀ − x_r`; linear.

    Args:
        config: how to calibrate.
        shape: of the latents, `(B, C, H, W)` or `(B, C, F, H, W)`.
        weights: the mask m on the latents' grid, of a shape that spreads to `shape`; given where `config` has a mask.

    Attributes:
        empty: nothing would be taken back.

    Raises:
        ValueError: a mask without its weights, or weights of another grid.
    """

    def __init__(self, config: NoiseCalibration, shape: Sequence[int], weights: Tensor | None = None):
        height, width = int(shape[-2]), int(shape[-1])
        if config.mask is not None and weights is None:
            raise ValueError("there is a mask but no weights: this host does not know masks; leave the mask out")
        self._inside, self._outside = LowPass(height, width, config.cutoff), None
        self._weights = None
        self._objective: Objective = config.objective
        if weights is not None:
            self._check(weights, shape)
            outside = LowPass(height, width, config.cutoff_outside or 0.0)
            # A mask of ones is none, bit for bit, and one of zeros is none with the cutoff outside.
            if not bool(weights.any()):
                self._inside = outside
            elif not bool((weights == 1).all()):
                self._weights, self._outside = weights, outside
        frames = int(shape[2]) if len(shape) == 5 else 1
        in_time = 1.0 if config.cutoff_time is None else config.cutoff_time
        self._time = TimeLowPass(frames, in_time) if in_time < 1 and frames > 1 else None
        self.empty = self._inside.empty and (self._outside is None or self._outside.empty)

    @staticmethod
    def _check(weights: Tensor, shape: Sequence[int]) -> None:
        grid = tuple(weights.shape)
        fits = len(grid) == len(shape) and all(one in (1, size) for one, size in zip(grid, shape, strict=True))
        if not fits:
            raise ValueError(f"the mask's weights are {grid}, which do not fit latents of {tuple(shape)}")

    def __call__(self, difference: Tensor) -> Tensor:
        """What to take back of `difference`, shaped as it."""
        if self._time is not None:
            difference = self._time(difference)
        kept = self._inside(difference)
        if self._weights is None or self._outside is None:
            return kept
        weights = self._weights.to(kept)
        if self._outside.empty:
            return kept * weights
        return self._outside(difference).lerp(kept, weights)

    def step(self, excess: Tensor, iteration: int) -> Tensor:
        """How much of `excess` the `iteration`-th update takes, 1 and up: all, or 1/k^`DECAY` of it where colours are
        to be safe. The first updates mend the content; what later ones in full would add is contrast and clipping."""
        return excess if self._objective == "paper" or iteration == 1 else excess / iteration**DECAY
