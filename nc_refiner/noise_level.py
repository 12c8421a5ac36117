"""Signal and noise scale at a timestep, and what each kind of model output says about ε and x₀."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

__all__ = ["NoiseLevel", "PredictionType", "predicted_epsilon", "predicted_x0"]

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow_prediction"]


@dataclass(frozen=True)
class NoiseLevel:
    """`x_t = alpha · x₀ + sigma · e` at one timestep.

    The two scales always come from the host, never from each other: `alpha² + sigma² = 1` holds for variance
    preserving schedules only (not for flow matching, Karras-scaled samples or a host's extra scale on x₀).

    Attributes:
        alpha: signal scale, finite, ≥ 0.
        sigma: noise scale, finite, ≥ 0.

    Raises:
        ValueError: a scale is negative or not finite.
    """

    alpha: float
    sigma: float

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("sigma", self.sigma)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"NoiseLevel.{name} is {value!r}; it must be a finite number of at least 0")

    @property
    def norm(self) -> float:
        """`√(alpha² + sigma²)`; 1 for variance preserving schedules."""
        return math.hypot(self.alpha, self.sigma)

    def add_noise(self, x0: Tensor, noise: Tensor) -> Tensor:
        """`alpha · x0 + sigma · noise`; any shape, both alike."""
        return self.alpha * x0 + self.sigma * noise

    def noise_in(self, x_t: Tensor, x0: Tensor) -> Tensor:
        """The noise `e` that turns `x0` into `x_t`; `sigma` must not be 0."""
        if self.sigma == 0:
            raise ValueError("sigma is 0: nothing was noised, so there is no noise to recover")
        return (x_t - self.alpha * x0) / self.sigma


def _check(prediction_type: str) -> None:
    if prediction_type not in get_args(PredictionType):
        allowed = ", ".join(get_args(PredictionType))
        raise ValueError(f"unknown prediction type {prediction_type!r}; allowed: {allowed}")


def predicted_epsilon(prediction: Tensor, x_t: Tensor, level: NoiseLevel, prediction_type: PredictionType) -> Tensor:
    """ε_θ from a model output at `x_t`.

    Args:
        prediction: what the model returned, after guidance; shaped as `x_t`.
        x_t: the noisy latents the model saw.
        level: scales at this timestep.
        prediction_type: `epsilon`, `v_prediction` (on `x_t / level.norm`, as VP models are trained), `sample`,
            or `flow_prediction` (`e − x₀`, `alpha = 1 − sigma`).

    Raises:
        ValueError: unknown `prediction_type`, or `sample` at `sigma = 0`.
    """
    _check(prediction_type)
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        n = level.norm
        return (level.alpha / n) * prediction + (level.sigma / n) * (x_t / n)
    if prediction_type == "flow_prediction":
        return x_t + (1 - level.sigma) * prediction
    return level.noise_in(x_t, prediction)


def predicted_x0(prediction: Tensor, x_t: Tensor, level: NoiseLevel, prediction_type: PredictionType) -> Tensor:
    """x̂₀ from a model output at `x_t`; arguments and errors as `predicted_epsilon`.

    `epsilon` divides by `alpha`, so it is refused at `alpha = 0` (zero terminal SNR), where x̂₀ is undefined.
    """
    _check(prediction_type)
    if prediction_type == "epsilon":
        if level.alpha == 0:
            raise ValueError("alpha is 0 at this timestep: x0 cannot be computed from an epsilon prediction there")
        return (x_t - level.sigma * prediction) / level.alpha
    if prediction_type == "v_prediction":
        n = level.norm
        return (level.alpha / n) * (x_t / n) - (level.sigma / n) * prediction
    if prediction_type == "flow_prediction":
        return x_t - level.sigma * prediction
    return prediction
