"""One look at a number of units that was fixed in advance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nc_refiner.experiment.statistics import fixed_horizon
from nc_refiner.experiment.statistics.analysis import analyze
from nc_refiner.experiment.statistics.options import Options

from .draws import Draw, Rate, equal_arms, paired_rows, unpaired_rows

__all__ = ["OneLook", "by_clip", "coverage", "differences_of", "live_look", "paired_differences"]

SHOWN = ("better", "worse")


@dataclass(frozen=True)
class OneLook:
    """How often a difference was shown, and how often the rank test decided."""

    shown: Rate
    ranks: Rate

    def __str__(self) -> str:
        return str(self.shown)


def by_clip(draw: Draw, clips: int, pieces: int, runs: int, seed: int) -> OneLook:
    """Equal arms (see `equal_arms`), analysed as `ab analyze` does."""
    rng = np.random.default_rng(seed)
    shown = ranks = 0
    for _ in range(runs):
        found = analyze(equal_arms(draw, clips, pieces, rng), Options("control")).comparisons[0]
        shown += found.verdict in SHOWN
        ranks += found.skewed
    return OneLook(Rate(shown, runs), Rate(ranks, runs))


def paired_differences(
    draw: Draw, units: int, effect: float, runs: int, seed: int, metrics: int = 1, alpha: float = 0.05
) -> OneLook:
    """Paired differences from `draw`, moved by `effect`: any of `metrics` independent metrics shown to differ."""
    rng = np.random.default_rng(seed)
    names = [f"metric{index}" for index in range(metrics)]
    options = Options("control", primary=names[0], better=dict.fromkeys(names, "lower"), alpha=alpha)
    shown = ranks = 0
    for _ in range(runs):
        rows = []
        for name in names:
            control = rng.standard_normal(units)
            rows += paired_rows(control, control + draw(rng, units) + effect, name)
        found = analyze(rows, options).comparisons
        shown += any(c.verdict in SHOWN for c in found)
        ranks += any(c.skewed for c in found)
    return OneLook(Rate(shown, runs), Rate(ranks, runs))


def differences_of(effect: float, units: int, runs: int, seed: int) -> Rate:
    """Unpaired normal values, `units` per arm, one arm moved by `effect`: how often that is shown."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        rows = unpaired_rows(rng.standard_normal(units), rng.standard_normal(units) + effect)
        hits += analyze(rows, Options("control")).comparisons[0].verdict in SHOWN
    return Rate(hits, runs)


def live_look(units: int, runs: int, seed: int) -> Rate:
    """Equal arms in live traffic, `units` log-normal values per arm."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        rows = unpaired_rows(rng.lognormal(0, 0.5, units), rng.lognormal(0, 0.5, units))
        hits += analyze(rows, Options("control")).comparisons[0].verdict in SHOWN
    return Rate(hits, runs)


def coverage(draw: Draw, units: int, runs: int, seed: int) -> dict[str, Rate]:
    """How often 95 % intervals of the mean hold the truth, 0: the analysis's own below `SMALL` units, and BCa, which is
    slow, in a quarter of the runs."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {"t": [], "BCa": []}
    for run in range(runs):
        data = (draw(rng, units),)
        found = {"t": fixed_horizon._interval(data, 0.05)}
        if run % 4 == 0:
            found["BCa"] = fixed_horizon._bootstrap(data, fixed_horizon._mean, 0.05)
        for name, interval in found.items():
            held[name].append(interval.low <= 0 <= interval.high)
    return {name: Rate(sum(each), len(each)) for name, each in held.items()}
