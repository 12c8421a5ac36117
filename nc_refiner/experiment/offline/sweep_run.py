"""Runs a plan over clips and gives its table, reusing every cell that is stored already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...adapters.base import RefinerAdapter
from ...refining.receipt import versions
from .arms import Arm, arms_of
from .cells import CellStore, cell_key
from .shared_latents import Bench
from .sweep_clips import SweepClip
from .sweep_config import SweepPlan

__all__ = ["cells_in", "run_plan", "strengths_of"]

Row = dict[str, Any]


def strengths_of(plan: SweepPlan, adapter: RefinerAdapter) -> tuple[float, ...]:
    """The plan's strengths, or the adapter's default."""
    return plan.strengths or (adapter.requirements.default_strength,)


def cells_in(plan: SweepPlan, adapter: RefinerAdapter, clips: Sequence[SweepClip]) -> int:
    """How many cells the table of `run_plan` will have."""
    return len(clips) * len(arms_of(plan, strengths_of(plan, adapter)))


def run_plan(
    adapter: RefinerAdapter,
    clips: Sequence[SweepClip],
    plan: SweepPlan,
    cells: Path,
    on_cell: Callable[[str], None] = lambda clip: None,
) -> list[Row]:
    """The table: one row per clip and arm, clips in their order, arms in the plan's.

    Args:
        adapter: the host.
        clips: each at most one window long; names differ.
        plan: what to run.
        cells: folder of finished cells; made where it is missing. The same cells give the same table, in whatever
            order and by however many runs they were computed.
        on_cell: called with the clip's name after each cell.

    Returns:
        Rows with `refiner`, `clip`, `method`, `label`, `iterations`, `cutoff`, `strength`, `seed`,
        `num_inference_steps`, `steps`, `evaluations` (of that arm run alone), `output_loss` (content loss of the
        refined latents at ν = 1), the metrics, and where it applies `content_loss` (of the estimate after 0…N
        iterations), `psnr_to_original`, `matched_strength`, `matched_loss`, `target_loss`. What does not apply is
        absent.

    Raises:
        ValueError: a clip that is too long, or a baseline over a host that runs its own solver.
    """
    store, host = CellStore(cells), {"name": adapter.name, **adapter.describe()}
    steps = plan.num_inference_steps or adapter.requirements.default_steps
    common = {
        "versions": versions(),
        "host": host,
        "steps": steps,
        "guidance_scale": plan.guidance_scale,
        "prompt": plan.prompt,
        "metrics": list(plan.metrics),
    }
    arms = arms_of(plan, strengths_of(plan, adapter))
    table: list[Row] = []
    for clip in clips:
        keys = {arm: cell_key(clip=clip.digest, arm=arm.as_dict(), **common) for arm in arms}
        found: dict[Arm, Row] = {}
        for arm, key in keys.items():
            row = store.get(key)
            if row is not None:
                found[arm] = row
                on_cell(clip.name)
        missing = [arm for arm in arms if arm not in found]
        if missing:
            for arm, row in Bench(adapter, clip, plan).rows(missing):
                store.put(keys[arm], row)
                found[arm] = row
                on_cell(clip.name)
        for arm in arms:
            fixed = {"refiner": adapter.name, "clip": clip.name, "label": arm.label, **arm.as_dict()}
            table.append({**fixed, "num_inference_steps": steps, **found[arm]})
    return table
