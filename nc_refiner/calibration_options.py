"""`NoiseCalibration`: how to calibrate, every field checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args

from .mask import Mask, as_mask

__all__ = ["NoiseCalibration", "Objective"]

Objective = Literal["paper", "colour_safe"]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class NoiseCalibration:
    """How to calibrate; a field out of range raises ValueError. From `mask` on they go beyond the paper.

    Attributes:
        iterations: N, 0 to 100; 1 to 3 recommended, 0 is plain SDEdit whatever else is set, about 10 over-sharpens.
        cutoff: threshold frequency ν in [0, 1] of Nyquist; 1 is the whole band, 0 none of it (plain SDEdit).
        guidance_scale: guidance while calibrating, ≥ 0; None is the host's own, 1.0 is conditional only.
        reuse_prediction: the last prediction serves the first denoising step, which saves one evaluation. None is
            wherever the host can and guides both alike; True is an error where it cannot; False is never, as published.
        tolerance: stop early once the content loss is below it (> 0); None never stops early.
        mask: where content is strict (1) and where the refiner is free (0): a picture or clip of any size as a path,
            tensor or array, a ready mask by name, or a function of the frames; None is strict everywhere. It is
            averaged by area onto the latents.
        cutoff_outside: ν where the mask is 0, in [0, 1]; None is 0, free. Only with a mask.
        objective: `paper`, or `colour_safe`: the k-th update takes 1/k^1.25 of the correction, so
            that colours hold at any N.
        cutoff_time: how quick a change over time is still corrected, in (0, 1] of the Nyquist frequency of latent
            frames; None and 1 are all of it. One frame is never filtered.
        hold: how far the kept band of every estimate while denoising is pulled to the reference, in [0, 1]; the pull
            fades to 0 until the last step. 0 is none of it.
    """

    iterations: int = 3
    cutoff: float = 1.0
    guidance_scale: float | None = None
    reuse_prediction: bool | None = None
    tolerance: float | None = None
    mask: Mask | Any = None
    cutoff_outside: float | None = None
    objective: Objective = "paper"
    cutoff_time: float | None = None
    hold: float = 0.0

    def __post_init__(self) -> None:
        iterations, scale, tolerance = self.iterations, self.guidance_scale, self.tolerance
        if isinstance(iterations, bool) or not isinstance(iterations, Integral) or not 0 <= iterations <= 100:
            raise ValueError(f"iterations is {iterations!r}; it must be a whole number of at least 0, at most 100")
        object.__setattr__(self, "iterations", int(iterations))  # NumPy's whole numbers are welcome
        if not (_is_number(self.cutoff) and 0 <= self.cutoff <= 1):
            raise ValueError(f"cutoff is {self.cutoff!r}; it must lie in [0, 1] (a fraction of the Nyquist frequency)")
        if scale is not None and not (_is_number(scale) and math.isfinite(scale) and scale >= 0):
            raise ValueError(f"guidance_scale is {scale!r}; it must be a number of at least 0, or None")
        if tolerance is not None and not (_is_number(tolerance) and tolerance > 0):
            raise ValueError(f"tolerance is {tolerance!r}; it must be above 0, or None to never stop early")
        self._check_what_goes_beyond()

    def _check_what_goes_beyond(self) -> None:
        outside, time = self.cutoff_outside, self.cutoff_time
        if self.mask is not None:
            object.__setattr__(self, "mask", as_mask(self.mask))
        if outside is not None and not (_is_number(outside) and 0 <= outside <= 1):
            raise ValueError(f"cutoff_outside is {outside!r}; it must lie in [0, 1], or be None")
        if outside is not None and self.mask is None:
            raise ValueError(f"cutoff_outside is {outside!r}, but there is no mask to be outside of; give a mask")
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is {self.objective!r}; allowed: {', '.join(get_args(Objective))}")
        if time is not None and not (_is_number(time) and 0 < time <= 1):
            raise ValueError(f"cutoff_time is {time!r}; it must lie above 0, at most 1, or be None to keep all")
        if not (_is_number(self.hold) and 0 <= self.hold <= 1):
            raise ValueError(f"hold is {self.hold!r}; it must lie in [0, 1]")

    @property
    def needs_axes(self) -> bool:
        """Whether it matters which axis of the latents is time."""
        timed = self.cutoff_time is not None and self.cutoff_time < 1
        return self.mask is not None or timed

    def settled(self, can_reuse: bool) -> NoiseCalibration:
        """The same with `reuse_prediction` decided: where it is None, as the host can. Every host asks this once."""
        return replace(self, reuse_prediction=can_reuse) if self.reuse_prediction is None else self

    def described(self) -> dict[str, Any]:
        """The fields as JSON takes them; a mask by what identifies it."""
        return {**vars(self), "mask": None if self.mask is None else self.mask.describe()}
