"""What must be kept: one metric of the output against the input, and its value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..naming import unknown_name

__all__ = ["RUNS", "TARGETS", "Fidelity"]

TOLERANCES = {"ssim": 0.01, "psnr": 0.3}
"""How near an output must come to the target, in the metric's own units; of the others a share of the target."""
SHARE = 0.05
TARGETS = ("ssim", "psnr", "mse_low", "delta_e", "lpips")
RUNS = 3
"""One run and at most two corrections, for every window."""
RISING = ("ssim", "psnr")


@dataclass(frozen=True)
class Fidelity:
    """How near to its input an output must stay; exactly one of the fields is given.

    Attributes:
        ssim: structural similarity of luma, at least, in (0, 1).
        psnr: peak signal-to-noise ratio of the clip, at least, in dB, above 0.
        mse_low: mean squared error below half of Nyquist, at most, above 0 (pixels in [0, 1]).
        delta_e: CIEDE2000 colour difference of 16-pixel blocks, at most, above 0.
        lpips: learned perceptual distance, at most, above 0; needs the weights of `lpips_weights`.
        lpips_weights: file of LPIPS's AlexNet weights; only with `lpips`.

    Raises:
        ValueError: none or several of them, or a value out of range.

    >>> Fidelity(ssim=0.9).metric
    'ssim'
    """

    ssim: float | None = None
    psnr: float | None = None
    mse_low: float | None = None
    delta_e: float | None = None
    lpips: float | None = None
    lpips_weights: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none"
            raise ValueError(f"keep takes one target, found {found}; give one of {', '.join(TARGETS)}")
        name, value = given[0], getattr(self, given[0])
        most = 1.0 if name == "ssim" else math.inf
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < most:
            span = "between 0 and 1" if name == "ssim" else "a number above 0"
            raise ValueError(f"keep: {name} is {value!r}; it must be {span}")
        if self.lpips_weights is not None and name != "lpips":
            raise ValueError("keep: lpips_weights goes with lpips")

    @classmethod
    def of(cls, value: Fidelity | Mapping[str, Any] | str) -> Fidelity:
        """From what a config or a command line says: `{ssim: 0.9}`, or `ssim=0.9`; itself where it is one.

        Raises:
            ValueError: another metric, or no number.
        """
        if isinstance(value, Fidelity):
            return value
        if isinstance(value, str):
            pairs = [part.partition("=") for part in value.split(",")]
            if not all(equals for _, equals, _ in pairs):
                raise ValueError(f"keep is {value!r}; write a metric and its value: ssim=0.9")
            value = {name.strip(): text.strip() for name, _, text in pairs}
        if not isinstance(value, Mapping):
            raise ValueError(f"keep is {value!r}; write a metric and its value: {{ssim: 0.9}}")
        known = [field.name for field in fields(cls)]
        given: dict[str, Any] = {}
        for name, text in value.items():
            if text is None:  # as a receipt has them
                continue
            if name not in known:
                raise unknown_name("metric of keep", str(name), known)
            given[name] = text if name == "lpips_weights" else _number(name, text)
        return cls(**given)

    def __str__(self) -> str:
        words = [f"{self.metric}={self.value:g}"]
        return ",".join([*words, f"lpips_weights={self.lpips_weights}"] if self.lpips_weights else words)

    @property
    def metric(self) -> str:
        """The metric's name, as in `evaluation.catalogue.METRICS`."""
        return next(name for name in TARGETS if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """The target's value, in the metric's own units."""
        return float(getattr(self, self.metric))

    @property
    def tolerance(self) -> float:
        """How near counts as reached: 0.01 in SSIM, 0.3 dB in PSNR, 5 % of the target in the others."""
        return TOLERANCES.get(self.metric, SHARE * self.value)

    def distance(self, value: float) -> float:
        """A value of the metric as a distance that grows with refining: 1 − SSIM, the MSE of a PSNR, itself."""
        if self.metric == "ssim":
            return max(1 - value, 1e-6)
        return max(10 ** (-value / 10) if self.metric == "psnr" else value, 1e-9)

    def value_at(self, distance: float) -> float:
        """The metric's value at a `distance`."""
        if self.metric == "ssim":
            return 1 - distance
        return -10 * math.log10(distance) if self.metric == "psnr" else distance

    def reached(self, value: float) -> bool:
        """Whether `value` lies within the tolerance of the target."""
        return abs(value - self.value) <= self.tolerance

    def held(self, value: float) -> bool:
        """Whether an output of `value` keeps at least what was asked, to the tolerance."""
        gap = value - self.value if self.metric in RISING else self.value - value
        return gap >= -self.tolerance


def _number(name: str, text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f"keep: {name} is {text!r}; it must be a number") from None
