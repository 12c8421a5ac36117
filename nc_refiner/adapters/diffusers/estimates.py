"""x̂₀ from what a diffusers scheduler is handed: every prediction type, preconditioning, thresholding and clipping."""

from __future__ import annotations

from typing import Any, cast, get_args

import torch
from torch import Tensor

from ...noise_level import NoiseLevel, PredictionType, predicted_x0

__all__ = ["carried_output", "estimate_x0", "implying_output", "prediction_type"]


_NEVER_LIMIT = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "TCDScheduler")
"""Carry `clip_sample` or `thresholding` in their configuration and never look at it."""


def prediction_type(scheduler: Any) -> PredictionType:
    """What the model behind `scheduler` predicts, in this package's words.

    Raises:
        ValueError: the scheduler states a type this package does not know, or none that could be told.
    """
    found = getattr(scheduler.config, "prediction_type", None)
    if found in get_args(PredictionType):
        return cast(PredictionType, found)
    # Flow-matching schedulers have one prediction type and so no such field; they noise with `scale_noise`.
    if found is None and hasattr(scheduler, "scale_noise"):
        return "flow_prediction"
    raise ValueError(
        f"{type(scheduler).__name__} has prediction_type {found!r}; known: {', '.join(get_args(PredictionType))}. "
        "Use a scheduler with one of these"
    )


def _raw(scheduler: Any, output: Tensor, sample: Tensor, level: NoiseLevel) -> Tensor:
    """x̂₀ before thresholding; affine in `output` and in `sample`."""
    sigma = torch.tensor(level.sigma, device=sample.device, dtype=sample.dtype)
    if hasattr(scheduler, "precondition_outputs"):  # EDM family
        return cast(Tensor, scheduler.precondition_outputs(sample, output, sigma))
    if hasattr(scheduler, "get_scalings_for_boundary_condition"):  # consistency models
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(sigma)
        return cast(Tensor, c_out * output + c_skip * sample)
    return predicted_x0(output, sample, level, prediction_type(scheduler))


def _mean_part(output: Tensor, sample: Tensor) -> Tensor:
    """Models with a learned variance return it behind the prediction, on the channel axis."""
    if output.shape != sample.shape and output.ndim > 1 and output.shape[1] == 2 * sample.shape[1]:
        return output[:, : sample.shape[1]]
    return output


def _limited(scheduler: Any, x0: Tensor) -> Tensor:
    config = scheduler.config
    if type(scheduler).__name__ in _NEVER_LIMIT:
        return x0
    if getattr(config, "thresholding", False):
        return cast(Tensor, scheduler._threshold_sample(x0))
    if getattr(config, "clip_sample", False):
        reach = getattr(config, "clip_sample_range", None) or 1.0
        return x0.clamp(-reach, reach)
    if getattr(config, "clip_denoised", False):
        return x0.clamp(-1, 1)
    return x0


def estimate_x0(scheduler: Any, output: Tensor, sample: Tensor, level: NoiseLevel) -> Tensor:
    """x̂₀ as `scheduler` itself forms it in `step`, without its state being touched.

    Args:
        scheduler: a diffusers scheduler.
        output: what `step` was given as model output (guided), with or without a learned variance.
        sample: what `step` was given as sample, in the scheduler's own scale.
        level: α and σ of `sample`.

    Returns:
        Shaped as `sample`, float32 (float64 for float64 samples).

    Raises:
        ValueError: unknown prediction type, or ε-prediction at α = 0.
    """
    wide = torch.float64 if sample.dtype == torch.float64 else torch.float32
    raw = _raw(scheduler, _mean_part(output, sample).to(wide), sample.to(wide), level)
    return _limited(scheduler, raw)


def _weights(scheduler: Any, sample: Tensor, level: NoiseLevel) -> tuple[float, float]:
    """a and b of x̂₀ = a·x + b·m."""
    one = torch.ones((1,) * sample.ndim, dtype=torch.float64)
    none = torch.zeros_like(one)
    return float(_raw(scheduler, none, one, level)), float(_raw(scheduler, one, none, level))


def _with_mean(output: Tensor, mean: Tensor) -> Tensor:
    """`output` with another prediction, and its learned variance if it has one."""
    if mean.shape == output.shape:
        return mean.to(output.dtype)
    return torch.cat([mean.to(output.dtype), output[:, mean.shape[1] :]], dim=1)


def carried_output(scheduler: Any, output: Tensor, sample: Tensor, moved: Tensor, level: NoiseLevel) -> Tensor:
    """The model output at `moved` that implies the same ε as `output` does at `sample`; for `reuse_prediction`.

    x̂₀ is `a·x + b·m` for every family. With ε = (x − α·x̂₀)/σ held still, moving x by Δ moves x̂₀ by Δ/α, hence m by
    `Δ·(1/α − a)/b`, which is 0 for ε-prediction. Same shape and dtype as `output`.
    """
    wide = torch.float64 if sample.dtype == torch.float64 else torch.float32
    a, b = _weights(scheduler, sample, level)
    shift = (moved.to(wide) - sample.to(wide)) * ((1 / level.alpha - a) / b)
    return _with_mean(output, _mean_part(output, sample).to(wide) + shift)


def implying_output(scheduler: Any, output: Tensor, sample: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
    """The model output at `sample` whose estimate is `x0` (before thresholding); shape and dtype of `output`."""
    wide = torch.float64 if sample.dtype == torch.float64 else torch.float32
    a, b = _weights(scheduler, sample, level)
    return _with_mean(output, (x0.to(wide) - a * sample.to(wide)) / b)
