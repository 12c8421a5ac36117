"""One way of refining a clip, and all that a plan asks for, each once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .sweep_config import PlanBase

__all__ = ["Arm", "arms_of"]


@dataclass(frozen=True)
class Arm:
    """A method and its settings; those that it does not have are None.

    Attributes:
        method: `sdedit`, `nc`, `input`, `ilvr`, `inversion`, `renoise`, `matched_sdedit`, `trace` (content loss
            alone), or what the plan calls a restorer, which has no strength.
        iterations: N. cutoff: ν. strength: as asked for. seed: of the noise.
    """

    method: str
    iterations: int | None = None
    cutoff: float | None = None
    strength: float | None = None
    seed: int | None = None

    @property
    def label(self) -> str:
        """What a table calls it, without strength and seed."""
        names = {
            "sdedit": "SDEdit",
            "nc": f"NC, N = {self.iterations}",
            "input": "input",
            "ilvr": "ILVR",
            "inversion": "inversion",
            "renoise": f"re-noised, {self.iterations} times",
            "matched_sdedit": f"SDEdit matched to N = {self.iterations}",
            "trace": "trace",
        }
        return names.get(self.method, self.method) + (f", ν = {self.cutoff:g}" if self.cutoff is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def calibrated(iterations: int, cutoff: float, strength: float, seed: int) -> Arm:
    """NC, or the SDEdit that it equals where nothing is calibrated."""
    if iterations == 0 or cutoff == 0:
        return Arm("sdedit", 0, None, strength, seed)
    return Arm("nc", iterations, cutoff, strength, seed)


def arms_of(plan: PlanBase, strengths: Iterable[float]) -> list[Arm]:
    """Every arm of the plan at `strengths`, each once, in the order of the table; SDEdit is always among them."""
    found: dict[Arm, None] = {}
    baselines = plan.baselines
    if "input" in baselines:
        found[Arm("input")] = None
    for choice in plan.restorers:
        for seed in plan.seeds:
            found[Arm(choice.method, seed=seed)] = None
    for seed in plan.seeds:
        for strength in strengths:
            found[calibrated(0, 0, strength, seed)] = None
            for cutoff in plan.cutoffs:
                for iterations in sorted(plan.iterations):
                    found[calibrated(iterations, cutoff, strength, seed)] = None
                if cutoff > 0 and plan.trace_iterations:
                    found[Arm("trace", plan.trace_iterations, cutoff, strength, seed)] = None
                if cutoff > 0 and "matched_sdedit" in baselines:
                    found[calibrated(plan.match_iterations, cutoff, strength, seed)] = None
                    found[Arm("matched_sdedit", plan.match_iterations, cutoff, strength, seed)] = None
            if "ilvr" in baselines:
                found[Arm("ilvr", None, plan.ilvr_cutoff, strength, seed)] = None
            if "inversion" in baselines:
                found[Arm("inversion", None, None, strength, seed)] = None
            if "renoise" in baselines:
                found[Arm("renoise", plan.match_iterations, None, strength, seed)] = None
    return list(found)
