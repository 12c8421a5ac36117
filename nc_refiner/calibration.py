"""Noise Calibration (Yang et al., ECCV 2024, arXiv 2407.10285): the method, knowing no host."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .calibration_options import NoiseCalibration
from .correction import Correction
from .frequency import LowPass, relative_norm
from .noise_level import NoiseLevel

__all__ = [
    "Calibrated",
    "CalibrationTrace",
    "NoiseCalibration",
    "calibrate",
    "calibration_steps",
    "content_loss",
    "is_identity",
]


LEAST_SIGNAL = 1e-6
"""α below which the start holds nothing of the input."""


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


def is_identity(config: NoiseCalibration, height: int | None = None, width: int | None = None) -> bool:
    """Whether `config` leaves latents of that size (None: of any size) as they are, bit for bit: plain SDEdit."""
    cutoff = max(config.cutoff, config.cutoff_outside or 0.0)
    if config.iterations == 0 or cutoff == 0:
        return True
    return height is not None and width is not None and LowPass(height, width, cutoff).empty


def content_loss(estimate: Tensor, reference: Tensor, cutoff: float) -> float:
    """‖L_ν(x − x_r)‖ / ‖x_r‖ of latents `(B, C, …, H, W)`, averaged over the batch; `cutoff` is ν in [0, 1]."""
    wide = torch.promote_types(estimate.dtype, torch.float32)
    low_pass, target = LowPass(reference.shape[-2], reference.shape[-1], cutoff), reference.to(wide)
    return relative_norm(low_pass(estimate.to(wide) - target), target)


def calibration_steps(
    x_t: Tensor, reference: Tensor, level: NoiseLevel, config: NoiseCalibration, weights: Tensor | None = None
) -> Generator[Tensor, Tensor, Calibrated]:
    """Coroutine: yields the `x_t` to predict at, is sent x̂₀ (guided), returns `Calibrated`.

    The published update `e ← ε_θ + (α/σ)·H_ν(x̂₀ − x_r)` (eqs. 11–15) is, in terms of the noisy latents,
    `x_t ← x_t − α·L_ν(x̂₀ − x_r)`: no ε, no division, one FFT pair per iteration, none at `cutoff = 1`.

    Args:
        x_t: noisy latents `(B, C, H, W)` or `(B, C, F, H, W)`, any float dtype; never written to.
        reference: the encoded input x_r, shaped as `x_t`.
        level: α, σ at the initial timestep. With α = 0 nothing can be calibrated: warns and returns `x_t`.
        config: `iterations = 0` or an empty low band return the very `x_t` without asking for a prediction. An open
            `reuse_prediction` (None) counts as no; a host that can reuse one settles it first (`config.settled`).
        weights: the mask on the latents' grid, 0…1; given where `config` has a mask. Zeros: as an empty low band.

    Raises:
        ValueError: shapes differ, or a prediction is not finite.
    """
    if x_t.shape != reference.shape:
        raise ValueError(f"x_t is {tuple(x_t.shape)} but the reference is {tuple(reference.shape)}; they must match")
    if is_identity(config):
        return Calibrated(x_t, CalibrationTrace())
    correction = Correction(config, x_t.shape, weights)
    if correction.empty:
        return Calibrated(x_t, CalibrationTrace())
    if level.alpha < LEAST_SIGNAL:
        warnings.warn("alpha is 0 at this timestep: calibration can do nothing; use a lower strength", stacklevel=2)
        return Calibrated(x_t, CalibrationTrace())
    wide = torch.float64 if x_t.dtype == torch.float64 else torch.float32
    target = reference.to(wide)
    losses: list[float] = []
    implied = None
    for _ in range(config.iterations):
        estimate = (yield x_t).to(wide)
        excess = correction(estimate - target)
        losses.append(relative_norm(excess, target))
        if not math.isfinite(losses[-1]):
            raise ValueError("the model's estimate is not finite (NaN or infinity); check its dtype and the input")
        if config.tolerance is not None and losses[-1] < config.tolerance:
            implied = estimate.to(x_t.dtype)
            break
        excess = correction.step(excess, len(losses))
        x_t = x_t.to(wide).sub(excess, alpha=level.alpha).to(x_t.dtype)
        implied = (estimate - excess).to(x_t.dtype) if config.reuse_prediction else None
        # Kept over the next prediction, they would be two latents more at the peak of memory.
        del estimate, excess
    return Calibrated(x_t, CalibrationTrace(tuple(losses)), implied if config.reuse_prediction else None)


def calibrate(
    x_t: Tensor,
    reference: Tensor,
    level: NoiseLevel,
    predict_x0: Callable[[Tensor], Tensor],
    config: NoiseCalibration,
    weights: Tensor | None = None,
) -> Calibrated:
    """Drive `calibration_steps` with `predict_x0(x_t) -> x̂₀`; arguments and errors as there."""
    steps = calibration_steps(x_t, reference, level, config, weights)
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(predict_x0(wanted))
    except StopIteration as stop:
        return cast(Calibrated, stop.value)
