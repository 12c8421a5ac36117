"""A plan from a pilot run: its spread, and how far that spread can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import load
from ..offline.results import read_results
from .power import Plan, plan
from .samples import samples

__all__ = ["PlanReport", "planned"]


@dataclass(frozen=True)
class PlanReport:
    """`plan`; with a pilot also `cautious`, the plan at the 80 % upper bound of its spread, and notes."""

    plan: Plan
    asked_units: bool
    cautious: Plan | None
    notes: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """JSON-ready."""
        cautious = asdict(self.cautious) if self.cautious is not None else None
        return {**asdict(self.plan), "cautious": cautious, "notes": list(self.notes)}

    def lines(self) -> Iterator[str]:
        """For people."""
        p = self.plan
        what = "units" if p.paired else "units per arm"
        how = "always-valid intervals" if p.sequential else "one look"
        if self.asked_units:
            yield f"{p.units} {what} show an effect of {p.effect:.3g} (sd {p.sd:.3g}) with power {p.power:.0%}, {how}."
        else:
            yield f"{p.units} {what} are needed to show an effect of {p.effect:.3g} (sd {p.sd:.3g}), {how}."
            yield f"Power there: {p.power:.1%} at level {p.alpha:.3g}."
        if self.cautious is not None:
            c = self.cautious
            bound = f"were the sd {c.sd:.3g}, its 80 % upper bound"
            yield f"{bound}: power {c.power:.0%}" if self.asked_units else f"{bound}: {c.units} {what}"
        yield from self.notes


def planned(
    pilot: Path | None, *, metric: str | None, arm: str | None, effect: float | None, sd: float | None, **design: Any
) -> PlanReport:
    """Plan from a pilot's folder, or from `sd` and `effect`; `design` as in `plan`.

    Raises:
        ValueError: neither or both of `pilot` and `sd`, no effect, no such metric or arm, or too small a pilot.
    """
    asked = design.get("units") is not None
    if (pilot is None) == (sd is None):
        raise ValueError("give either --pilot DIR or --sd, and the --effect that matters")
    if pilot is None:
        assert sd is not None
        if effect is None:
            raise ValueError("without a pilot the smallest --effect that matters must be given")
        return PlanReport(plan(effect, sd, **design), asked, None, ())
    results = read_results(pilot)
    control, name = results.config["control"], metric or results.config["primary"]
    found = {key: sample for key, sample in samples(results.observations(), control).items() if key[0] == name}
    arms = [key[1] for key in found]
    if not found:
        raise ValueError(f"the pilot has no pairs with {name}; measured: {', '.join(results.config['metrics'])}")
    if arm is None and len(arms) > 1:
        raise ValueError(f"the pilot has several arms; choose one with --arm: {', '.join(arms)}")
    chosen = arm or arms[0]
    if chosen not in arms:
        raise ValueError(f"the pilot has no arm {chosen!r} to compare with {control}; it has {', '.join(arms)}")
    sample = found[name, chosen]
    count = len(sample.units)
    if count < 3:
        raise ValueError(f"the pilot has {count} units with {name}; at least 3 are needed to know their spread")
    values = sample.differences if design.get("paired", True) else sample.control
    spread = float(np.std(values, ddof=1))
    if spread <= 1e-12 * float(np.abs(values).max()):
        raise ValueError(f"{name} does not vary over the pilot's units; its difference is certain without a plan")
    # (n − 1) s² / σ² is chi-square: a small pilot may have come out too even by luck.
    upper = spread * float(np.sqrt((count - 1) / load("scipy.stats").chi2.ppf(0.2, count - 1)))
    notes = [f"Pilot: {name}, {chosen} against {control}, {count} units, observed difference {sample.difference:.3g}."]
    if effect is None:
        effect = sample.difference
        notes.append("The observed difference served as the effect, a mere guess; give the --effect that matters.")
    return PlanReport(plan(effect, spread, **design), asked, plan(effect, upper, **design), tuple(notes))
