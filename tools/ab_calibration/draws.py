"""Data whose truth is known, and shares with their interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nc_refiner.experiment.statistics.observations import Observation

__all__ = ["DIFFERENCES", "LEVELS", "Draw", "Rate", "equal_arms", "paired_rows", "unpaired_rows"]

Array = np.ndarray[Any, np.dtype[np.float64]]
Draw = Callable[[np.random.Generator, int], Array]

DIFFERENCES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy tails (t, 3 degrees)": lambda rng, n: rng.standard_t(3, n),
    "skewed (exponential − 1)": lambda rng, n: rng.exponential(1, n) - 1,
    "very skewed (log-normal − mean)": lambda rng, n: rng.lognormal(0, 1, n) - np.exp(0.5),
}
"""Paired differences with mean 0. The last two are no A/A test: there equal arms give symmetric differences."""

LEVELS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "log-normal": lambda rng, n: rng.lognormal(0, 1, n),
}
"""Values of clips under one arm."""


@dataclass(frozen=True)
class Rate:
    """`hits` of `runs`, with its 95 % Wilson interval."""

    hits: int
    runs: int

    @property
    def share(self) -> float:
        """Hits per run."""
        return self.hits / self.runs

    def __str__(self) -> str:
        z, n, p = 1.96, self.runs, self.share
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
        return f"{p:.1%} ({max(0.0, low):.1%} to {high:.1%})"


def paired_rows(control: Array, arm: Array, metric: str = "mse") -> list[Observation]:
    """Observations of one paired experiment with one value per unit and arm."""
    return [
        Observation("simulated", f"u{index}", name, metric, float(value), pair=f"u{index}")
        for name, values in (("control", control), ("nc", arm))
        for index, value in enumerate(values)
    ]


def unpaired_rows(control: Array, arm: Array, metric: str = "seconds") -> list[Observation]:
    """Observations of units that were given one arm each, the arms in turn."""
    return [
        Observation("simulated", f"{name}{index}", name, metric, float(value), at=float(index))
        for name, values in (("control", control), ("nc", arm))
        for index, value in enumerate(values)
    ]


def equal_arms(draw: Draw, clips: int, pieces: int, rng: np.random.Generator) -> list[Observation]:
    """Two equal arms on `clips` clips cut into `pieces` pieces each.

    Arms differ by chance alone, by clip (drawn from `draw` for each arm) and by piece (normal, as large).
    """
    return [
        Observation("simulated", f"clip{clip}", name, "mse", float(value), pair=f"clip{clip}-{piece}")
        for name in ("control", "nc")
        for clip, level in enumerate(draw(rng, clips))
        for piece, value in enumerate(level + rng.standard_normal(pieces))
    ]
