"""A look after every unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nc_refiner.experiment.statistics.confidence_sequences import (
    ConfidenceSequence,
    difference_sequence,
    mean_sequence,
    rate_difference_sequence,
)
from nc_refiner.experiment.statistics.deciding import very_skewed
from nc_refiner.experiment.statistics.fixed_horizon import MINIMUM_UNITS

from .draws import DIFFERENCES, LEVELS, Draw, Rate

__all__ = ["LOOKED_AT", "Peeking", "peeking", "peeking_live"]


def _of_equal_arms(draw: Draw) -> Draw:
    return lambda rng, n: draw(rng, n) - draw(rng, n)


LOOKED_AT: dict[str, Draw] = {
    **{f"equal arms, {name} values": _of_equal_arms(draw) for name, draw in LEVELS.items()},
    **{name: draw for name, draw in DIFFERENCES.items() if name != "normal"},
}
"""What is looked at: of equal arms, and other differences with mean 0."""


@dataclass(frozen=True)
class Peeking:
    """Shares of experiments in which some look was wrong.

    Attributes:
        always_valid: the analysis's own verdict, from `MINIMUM_UNITS` units on.
        unwarned: of all experiments, those where it was wrong and the report did not warn of skew at that look.
        repeated_t: a t test that is repeated after every unit.
    """

    always_valid: Rate
    unwarned: Rate
    repeated_t: Rate


def _wrong(sequence: ConfidenceSequence, truth: float = 0.0) -> np.ndarray:
    return np.asarray((sequence.low > truth) | (sequence.high < truth))


def peeking(draw: Draw, units: int, runs: int, seed: int) -> Peeking:
    """Paired differences from `draw`, looked at after every unit."""
    from scipy import stats

    rng = np.random.default_rng(seed)
    count = np.arange(2, units + 1)
    limit = stats.t.ppf(0.975, count - 1)
    wrong = unwarned = repeated = 0
    for _ in range(runs):
        values = draw(rng, units)
        looks = _wrong(mean_sequence(values))[MINIMUM_UNITS - 1 :]
        if looks.any():
            wrong += 1
            unwarned += not very_skewed(values[: MINIMUM_UNITS + int(looks.argmax())])
        mean = np.cumsum(values)[1:] / count
        variance = (np.cumsum(values**2)[1:] - count * mean**2) / (count - 1)
        beyond = np.abs(mean) > limit * np.sqrt(variance / count)
        repeated += bool(beyond[MINIMUM_UNITS - 2 :].any())
    return Peeking(Rate(wrong, runs), Rate(unwarned, runs), Rate(repeated, runs))


def peeking_live(units: int, runs: int, seed: int, share: float = 0.5) -> dict[str, Rate]:
    """Unpaired, after every unit: log-normal seconds and rare errors, each by its own sequence."""
    rng = np.random.default_rng(seed)
    hits = {"seconds": 0, "errors": 0}
    for _ in range(runs):
        treated = rng.random(units) < share
        hits["seconds"] += bool(_wrong(difference_sequence(rng.lognormal(0, 0.5, units), treated)).any())
        errors = (rng.random(units) < 0.02).astype(float)
        hits["errors"] += bool(_wrong(rate_difference_sequence(errors, treated)).any())
    return {name: Rate(number, runs) for name, number in hits.items()}
