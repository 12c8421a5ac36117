"""The masks of the runs over one clip, on its latents; every mask is asked once per frame."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..adapters.base import Requirements
from ..calibration import NoiseCalibration, is_identity
from ..mask import Mask, Place
from .fit import Fit

__all__ = ["MaskWeights"]


class MaskWeights:
    """Weights on the latents of a clip, piece by piece.

    Args:
        calibrations: of all runs over the clip.
        requirements: of their adapter.
        count: frames of the clip; None where it is not known.

    Raises:
        ValueError: a mask with too few frames.
    """

    def __init__(self, calibrations: Iterable[NoiseCalibration], requirements: Requirements, count: int | None):
        wanted = [one.mask for one in calibrations if one.mask is not None and not is_identity(one)]
        self._masks: list[Mask] = list(dict.fromkeys(wanted))
        self._factor = requirements.frame_factor
        self._rows: dict[Mask, dict[int, Tensor]] = {mask: {} for mask in self._masks}
        self.notes: list[str] = []
        for mask in self._masks:
            if count is not None:
                mask.check_length(count)
                if mask.length is not None and mask.length not in (1, count):
                    self.notes.append(f"{mask.name} has {mask.length} frames, of which the first {count} are used")

    def of(self, frames: Tensor, first: int, how: Fit, latents: Tensor) -> dict[Mask, Tensor]:
        """Of each mask `(1, 1, F', H', W')`, for the latents of `frames` `(F, 3, H, W)` from number `first` on."""
        if not self._masks:
            return {}
        height, width = (int(side) for side in frames.shape[-2:])
        place = Place(
            (int(latents.shape[-3]), int(latents.shape[-2]), int(latents.shape[-1])),
            len(frames),
            first,
            how.frames,
            (height, width),
            (height + how.bottom, width + how.right),
            self._factor,
        )
        return {mask: mask.weights(place, frames) for mask in self._masks}

    def keep(self, frames: Tensor, first: int, how: Fit, latents: Tensor) -> None:
        """As `of`, kept for `whole`: where latent frames are frames."""
        for mask, weights in self.of(frames, first, how, latents).items():
            self._rows[mask].update((first + index, row) for index, row in enumerate(weights.unbind(2)))

    def whole(self) -> dict[Mask, Tensor]:
        """Of each mask the weights of all that was kept."""
        return {mask: torch.stack([rows[key] for key in sorted(rows)], dim=2) for mask, rows in self._rows.items()}
