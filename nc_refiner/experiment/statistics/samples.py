"""Observations → the independent numbers the statistics work on: one per unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from .observations import Observation

__all__ = ["Sample", "samples"]

Array = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Sample:
    """What is known of one metric for one arm and the control.

    Attributes:
        paired: whether every unit was given both arms on the same noise.
        units: names, in the order in which they came.
        control, arm: paired: one mean over seeds per unit, aligned with `units`. Unpaired: one mean per unit of each.
        treated: unpaired: for every entry of `units`, whether it was given the arm.
        dropped: units left out: paired, those that lack one of the arms; unpaired, those that were given both.
    """

    paired: bool
    units: tuple[str, ...]
    control: Array
    arm: Array
    treated: Flags
    dropped: int = 0

    @property
    def differences(self) -> Array:
        """Arm − control per unit; only for paired samples."""
        return self.arm - self.control

    @property
    def stream(self) -> Array:
        """Unpaired: the values of both arms in the order of `units`."""
        values = np.empty(len(self.units))
        values[self.treated], values[~self.treated] = self.arm, self.control
        return values

    @property
    def difference(self) -> float:
        """Mean of the arm − mean of the control; NaN where one has no unit."""
        return float(self.arm.mean() - self.control.mean()) if len(self.arm) and len(self.control) else float("nan")

    @property
    def smallest(self) -> int:
        """Units of the arm that has fewer."""
        return min(len(self.arm), len(self.control))

    def scaled(self, factor: float) -> Sample:
        """The same with the control's values times `factor`: arm − factor × control is below 0 where a ratio holds."""
        return Sample(self.paired, self.units, self.control * factor, self.arm, self.treated, self.dropped)


def samples(observations: Iterable[Observation], control: str) -> dict[tuple[str, str], Sample]:
    """Per metric and arm (other than `control`) its sample.

    Seeds are averaged within a unit, because they are not independent of each other. A metric with any pair that has
    both arms is analysed as paired, and only its pairs count; otherwise units are independent.
    """
    by_metric: dict[str, list[Observation]] = defaultdict(list)
    for observation in observations:
        by_metric[observation.metric].append(observation)
    found: dict[tuple[str, str], Sample] = {}
    for metric, rows in by_metric.items():
        # Sorting is stable: what has no time keeps the order it came in.
        rows.sort(key=lambda row: row.at or 0.0)
        for arm in dict.fromkeys(row.arm for row in rows if row.arm != control):
            two = [row for row in rows if row.arm in (arm, control)]
            found[metric, arm] = _paired(two, control) or _unpaired(two, control)
    return found


def _paired(rows: list[Observation], control: str) -> Sample | None:
    pairs: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for row in rows:
        if row.pair is not None:
            pairs[row.unit, row.pair][row.arm != control].append(row.value)
    per_unit: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (unit, _), sides in pairs.items():
        if sides[True] and sides[False]:
            per_unit[unit].append((fmean(sides[False]), fmean(sides[True])))
    if not per_unit:
        return None
    means = np.array([[fmean(side) for side in zip(*values, strict=True)] for values in per_unit.values()])
    dropped = len({row.unit for row in rows}) - len(per_unit)
    return Sample(True, tuple(per_unit), means[:, 0], means[:, 1], np.ones(len(means), bool), dropped)


def _unpaired(rows: list[Observation], control: str) -> Sample:
    per_unit: dict[str, dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for row in rows:
        per_unit[row.unit][row.arm != control].append(row.value)
    kept = {unit: sides for unit, sides in per_unit.items() if not (sides[True] and sides[False])}
    treated = np.array([bool(sides[True]) for sides in kept.values()], bool)
    values = np.array([fmean(sides[True] or sides[False]) for sides in kept.values()], np.float64)
    return Sample(False, tuple(kept), values[~treated], values[treated], treated, len(per_unit) - len(kept))
