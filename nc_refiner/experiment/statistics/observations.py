"""What an experiment is decided from: numbers that were measured, and who was given which arm."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Exposure", "Observation"]


@dataclass(frozen=True)
class Observation:
    """One measured number.

    Attributes:
        experiment: its name.
        unit: what is independent of every other unit: a clip offline, a user or request in live traffic.
        arm: the arm's name.
        metric: the metric's name, as in `nc_refiner.experiment.metrics` or the caller's own (`error` is 0 or 1,
            `seconds` is per request).
        value: finite. What could not be measured has no observation, never a placeholder.
        pair: the same for observations that share clip, noise and seed over several arms; None for live traffic.
        seed: seed of the noise, where it is known.
        at: when it was measured, in seconds since the epoch (UTC); gives the order for sequential analysis.

    Raises:
        ValueError: an empty name, or a value that is not finite.
    """

    experiment: str
    unit: str
    arm: str
    metric: str
    value: float
    pair: str | None = None
    seed: int | None = None
    at: float | None = None

    def __post_init__(self) -> None:
        _named(self, "experiment", "unit", "arm", "metric")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.metric} of {self.unit} is {self.value}; leave out what could not be measured")


@dataclass(frozen=True)
class Exposure:
    """One unit that was given an arm, whether or not anything could be measured afterwards.

    Attributes:
        experiment, unit, arm: as in `Observation`.
        at: seconds since the epoch (UTC).
        weight: probability with which this unit was to get this arm, in (0, 1]; None where it is not known.

    Raises:
        ValueError: an empty name, or a weight out of range.
    """

    experiment: str
    unit: str
    arm: str
    at: float
    weight: float | None = None

    def __post_init__(self) -> None:
        _named(self, "experiment", "unit", "arm")
        if self.weight is not None and not 0 < self.weight <= 1:
            raise ValueError(f"weight of {self.arm} for {self.unit} is {self.weight}; it must lie in (0, 1]")


def _named(record: object, *fields: str) -> None:
    for field in fields:
        value = getattr(record, field)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{field} is {value!r}; it must be a name")
