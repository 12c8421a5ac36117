"""`Hold`: while denoising, the kept band of every estimate is pulled to the reference, less and less."""

from __future__ import annotations

import torch
from torch import Tensor

from .calibration import LEAST_SIGNAL, NoiseCalibration, is_identity
from .correction import Correction
from .noise_level import NoiseLevel

__all__ = ["Hold", "pull"]


def pull(step: float, steps: int) -> float:
    """How much of `hold` counts at a step: 1 at the first (0), falling evenly to 0 at the last (`steps − 1`).

    >>> [pull(step, 3) for step in range(3)]
    [1.0, 0.5, 0.0]
    """
    return max(0.0, 1 - step / (steps - 1)) if steps > 1 else 0.0


class Hold:
    """`x̂₀ ← x̂₀ − w·L(x̂₀ − x_r)` with `w = hold · pull(step)`; L as in the calibration, its mask included.

    As HiFlow does (arXiv 2504.06232); at `hold = 1` without fading it would be ILVR. Makes no evaluations.

    Args:
        reference: x_r, `(B, C, H, W)` or `(B, C, F, H, W)`; kept until the last step.
        config: how the noise was calibrated.
        weights: as of `Correction`.
    """

    def __init__(self, reference: Tensor, config: NoiseCalibration, weights: Tensor | None = None):
        self._reference, self._config, self._weights = reference, config, weights
        self._correction = Correction(config, reference.shape, weights)

    @classmethod
    def of(
        cls, reference: Tensor, level: NoiseLevel, config: NoiseCalibration, weights: Tensor | None = None
    ) -> Hold | None:
        """None where nothing is held; so too where nothing can be calibrated, at α = 0 of `level`, where it starts."""
        if config.hold == 0 or is_identity(config) or level.alpha < LEAST_SIGNAL:
            return None
        found = cls(reference, config, weights)
        return None if found._correction.empty else found

    def __call__(self, x0: Tensor, step: float, steps: int) -> Tensor:
        """The estimate at `step` of `steps` (counted from 0), held; the very `x0` where the pull is 0."""
        share = self._config.hold * pull(step, steps)
        if share == 0:
            return x0
        wide = torch.promote_types(x0.dtype, torch.float32)
        reference = self._reference.to(x0.device, wide)
        return x0.to(wide).sub(self._correction(x0.to(wide) - reference), alpha=share).to(x0.dtype)

    def part(self, frames: slice) -> Hold:
        """The same for some frames of `(B, C, F, H, W)`."""
        weights = self._weights
        if weights is not None and weights.shape[2] > 1:
            weights = weights[:, :, frames]
        return Hold(self._reference[:, :, frames], self._config, weights)
