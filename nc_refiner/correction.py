"""What calibration takes back of an estimate: which band, where in the picture, under which objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .calibration_options import NoiseCalibration, Objective
from .frequency import LowPass, TimeLowPass
from .noise_level import NoiseLevel

__all__ = ["Correction", "colour_safe"]


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
        cutoff_time = 1.0 if config.cutoff_time is None else config.cutoff_time
        self._time = TimeLowPass(frames, cutoff_time) if cutoff_time < 1 and frames > 1 else None
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

    def settled(self, x_t: Tensor, excess: Tensor, reference: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The updated `x_t` under the objective, and what was taken from the estimate on the whole."""
        if self._objective == "paper":
            return x_t, excess
        moved = colour_safe(x_t, reference, level)
        if self._weights is not None and self._outside is not None and self._outside.empty:
            moved = x_t.lerp(moved, self._weights.to(x_t))  # outside the mask SDEdit's noise stays as it is
        return moved, excess + (x_t - moved) / level.alpha


def colour_safe(x_t: Tensor, reference: Tensor, level: NoiseLevel) -> Tensor:
    """`x_t` with its noise renormalised: mean 0 and variance 1 in each channel of each sample, over space and time.

    Calibration leaves a mean and a surplus of variance in the noise, which the model answers with false colours.

    Args:
        x_t, reference: latents `(B, C, …, H, W)`.
        level: α and σ; without noise (σ = 0) `x_t` is returned.
    """
    if level.sigma == 0:
        return x_t
    noise = level.noise_in(x_t, reference)
    axes = tuple(range(2, noise.ndim))
    noise = noise - noise.mean(dim=axes, keepdim=True)
    spread = noise.square().mean(dim=axes, keepdim=True).sqrt()
    return level.add_noise(reference, noise / spread.clamp_min(torch.finfo(noise.dtype).tiny))
