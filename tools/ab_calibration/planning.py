"""Whether what `ab plan` recommends finds what it promises to find, asked of the whole analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nc_refiner.experiment.statistics.analysis import analyze
from nc_refiner.experiment.statistics.options import Options
from nc_refiner.experiment.statistics.power import Plan, plan

from .draws import Rate, paired_rows, unpaired_rows

__all__ = ["DESIGNS", "Planned", "planned"]

DESIGNS = (
    (0.3, 0.8, True, False),
    (0.5, 0.8, True, False),
    (0.5, 0.9, True, False),
    (0.8, 0.8, True, False),
    (1.0, 0.8, True, False),
    (1.0, 0.95, True, False),
    (2.0, 0.8, True, False),
    (0.5, 0.8, False, False),
    (1.0, 0.8, False, False),
    (0.5, 0.8, True, True),
    (1.0, 0.8, True, True),
    (0.5, 0.8, False, True),
)
"""Effect in standard deviations, power asked for, paired, sequential."""


@dataclass(frozen=True)
class Planned:
    """A plan, and how often the analysis showed the effect with the units it asks for, on the right side."""

    plan: Plan
    found: Rate

    @property
    def apart(self) -> float:
        """How far that is from what the plan promises."""
        return self.found.share - self.plan.power


def planned(effect: float, power: float, paired: bool, sequential: bool, runs: int, seed: int) -> Planned:
    """Plan for normal differences (paired) or values, and run the experiment `runs` times."""
    made = plan(effect, 1.0, power=power, paired=paired, sequential=sequential)
    rng = np.random.default_rng(seed)
    total = made.units if paired else 2 * made.units
    options = Options("control", sequential=sequential, planned=total)
    hits = 0
    for _ in range(runs):
        control = rng.standard_normal(made.units)
        if paired:
            rows = paired_rows(control, control + rng.standard_normal(made.units) - effect)
        else:
            rows = unpaired_rows(control, rng.standard_normal(made.units) - effect)
        hits += analyze(rows, options).comparisons[0].verdict == "better"
    return Planned(made, Rate(hits, runs))
