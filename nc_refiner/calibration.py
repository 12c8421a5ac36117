"""Noise Calibration (Yang et al., ECCV 2024, arXiv 2407.10285): the method, knowing no host."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from .frequency import LowPass
from .noise_level import NoiseLevel

__all__ = ["Calibrated", "CalibrationTrace", "NoiseCalibration", "calibrate", "calibration_steps"]


@dataclass(frozen=True)
class NoiseCalibration:
    """How to calibrate.

    Attributes:
        iterations: N ≥ 0; 1 to 3 recommended, 0 is plain SDEdit, about 10 over-sharpens.
        cutoff: threshold frequency ν in [0, 1] of Nyquist; 1 is the whole band, 0 none of it (plain SDEdit). None is
            the host's own default, which is 1 for all but the embedded refiner, and 1 where no host is known.
        guidance_scale: guidance while calibrating, ≥ 0; None is the host's own, 1.0 is conditional only.
        reuse_prediction: the last prediction serves the first denoising step, which saves one evaluation.
        tolerance: stop early once the content loss is below it (> 0); None never stops early.

    A field out of range raises ValueError.
    """

    iterations: int = 3
    cutoff: float | None = None
    guidance_scale: float | None = None
    reuse_prediction: bool = False
    tolerance: float | None = None

    def __post_init__(self) -> None:
        scale, tolerance = self.guidance_scale, self.tolerance
        if type(self.iterations) is not int or self.iterations < 0:
            raise ValueError(
                f"iterations is {self.iterations!r}; it must be a whole number of at least 0 (usual: 1 to 3)"
            )
        if self.cutoff is not None and not 0 <= self.cutoff <= 1:
            raise ValueError(f"cutoff is {self.cutoff}; it must lie in [0, 1] (a fraction of the Nyquist frequency)")
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"guidance_scale is {scale}; it must be a number of at least 0, or None")
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance is {tolerance}; it must be above 0, or None to never stop early")

    def resolved(self, cutoff: float) -> NoiseCalibration:
        """The same with every default filled in; `cutoff` is the host's own."""
        return self if self.cutoff is not None else replace(self, cutoff=cutoff)


@dataclass(frozen=True)
class CalibrationTrace:
    """`content_loss`: ‖L_ν(x̂₀ − x_r)‖ / ‖x_r‖ at every prediction made, averaged over the batch."""

    content_loss: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """The latents to denoise from, the trace and, for `reuse_prediction`, the x̂₀ the last prediction implies there."""

    x_t: Tensor
    trace: CalibrationTrace
    x0: Tensor | None = None


def calibration_steps(
    x_t: Tensor, reference: Tensor, level: NoiseLevel, config: NoiseCalibration
) -> Generator[Tensor, Tensor, Calibrated]:
    """Coroutine: yields the `x_t` to predict at, is sent x̂₀ (guided), returns `Calibrated`.

    The published update `e ← ε_θ + (α/σ)·H_ν(x̂₀ − x_r)` (eqs. 11–15) is, in terms of the noisy latents,
    `x_t ← x_t − α·L_ν(x̂₀ − x_r)`: no ε, no division, one FFT pair per iteration, none at `cutoff = 1`.

    Args:
        x_t: noisy latents `(B, C, H, W)` or `(B, C, F, H, W)`, any float dtype; never written to.
        reference: the encoded input x_r, shaped as `x_t`.
        level: α, σ at the initial timestep. With α = 0 nothing can be calibrated: warns and returns `x_t`.
        config: `iterations = 0` or an empty low band return the very `x_t` without asking for a prediction.

    Raises:
        ValueError: shapes differ, or a prediction is not finite.
    """
    if x_t.shape != reference.shape:
        raise ValueError(f"x_t is {tuple(x_t.shape)} but the reference is {tuple(reference.shape)}; they must match")
    low_pass = LowPass(x_t.shape[-2], x_t.shape[-1], 1.0 if config.cutoff is None else config.cutoff)
    if config.iterations == 0 or low_pass.empty:
        return Calibrated(x_t, CalibrationTrace())
    if level.alpha < 1e-6:
        warnings.warn("alpha is 0 at this timestep: calibration can do nothing; use a lower strength", stacklevel=2)
        return Calibrated(x_t, CalibrationTrace())
    wide = torch.float64 if x_t.dtype == torch.float64 else torch.float32
    target = reference.to(wide)
    size = target.flatten(1).norm(dim=1).clamp_min(torch.finfo(wide).tiny)
    losses: list[float] = []
    implied = None
    for _ in range(config.iterations):
        estimate = (yield x_t).to(wide)
        excess = low_pass(estimate - target)
        losses.append(float((excess.flatten(1).norm(dim=1) / size).mean()))
        if not math.isfinite(losses[-1]):
            raise ValueError("the model's estimate is not finite (NaN or infinity); check its dtype and the input")
        if config.tolerance is not None and losses[-1] < config.tolerance:
            implied = estimate.to(x_t.dtype)
            break
        x_t = x_t.to(wide).sub(excess, alpha=level.alpha).to(x_t.dtype)
        implied = (estimate - excess).to(x_t.dtype) if config.reuse_prediction else None
        # Kept over the next prediction, they would be two latents more at the peak of memory.
        del estimate, excess
    return Calibrated(x_t, CalibrationTrace(tuple(losses)), implied if config.reuse_prediction else None)


def calibrate(
    x_t: Tensor, reference: Tensor, level: NoiseLevel, predict_x0: Callable[[Tensor], Tensor], config: NoiseCalibration
) -> Calibrated:
    """Drive `calibration_steps` with `predict_x0(x_t) -> x̂₀`; arguments and errors as there."""
    steps = calibration_steps(x_t, reference, level, config)
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(predict_x0(wanted))
    except StopIteration as stop:
        return cast(Calibrated, stop.value)
