"""A sweep: every arm of a plan on every clip, over one host, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch

from ... import video
from ...adapters.base import RefinerAdapter
from ...baselines import BASELINES, BaselineRefiner
from ...calibration import NoiseCalibration
from ...clip import VideoClip
from ...config.refiner import calibration_fields
from ...evaluation.measure import measure_frames
from ...mask import as_mask
from ...refiner import CalibratedRefiner, RefinedClip
from ...refining.receipt import versions
from ...refining.resize import resized
from ...refining.settings import RefineSettings
from .arms import Arm, arms_of
from .clips import InputClip
from .restoring import Restorers
from .results import KEPT, CellStore, cell_key
from .shared_encode import SharedEncode
from .shared_latents import Bench, reused_by
from .sweep_config import PlanBase
from .work import Row, Work, finish

__all__ = ["cells_in", "keeper", "run_plan", "strengths_of"]

Keep = Callable[[InputClip, Arm, str, torch.Tensor], str | None]


def strengths_of(plan: PlanBase, adapter: RefinerAdapter) -> tuple[float, ...]:
    """The plan's strengths, or the adapter's default."""
    return plan.strengths or (adapter.requirements.default_strength,)


def cells_in(plan: PlanBase, adapter: RefinerAdapter, clips: Sequence[InputClip]) -> int:
    """How many cells the table of `run_plan` will have."""
    return len(clips) * len(arms_of(plan, strengths_of(plan, adapter)))


def run_plan(
    adapter: RefinerAdapter,
    clips: Sequence[InputClip],
    plan: PlanBase,
    cells: Path,
    on_cell: Callable[[str], None] = lambda clip: None,
    keep: Keep | None = None,
    restorers: Restorers | None = None,
) -> list[Row]:
    """The table: one row per clip and arm, clips in their order, arms in the plan's.

    Args:
        adapter: the host.
        clips: each at most one window long; names differ.
        plan: what to run.
        cells: folder of finished cells; made where it is missing. The same cells give the same table, in whatever
            order and by however many runs they were computed.
        on_cell: called with the clip's name after each cell.
        keep: given clip, arm, key of the cell and frames, writes an output that is to be kept and names its file,
            relative to the folder above `cells`; None for the others.
        restorers: the plan's, where they are built already; default: they are built here.

    Returns:
        Rows with `refiner`, `clip`, `method`, `label`, `iterations`, `cutoff`, `strength`, `seed`,
        `num_inference_steps`, `steps`, `evaluations` (of that arm run alone), `output_loss` (content loss of the
        refined latents at ν = 1), the metrics, and where it applies `content_loss` (of the estimate after 0…N
        iterations), `psnr_to_original`, `matched_strength`, `matched_loss`, `target_loss`, `video` (the kept file).
        What does not apply is absent; restorers have no `strength`, `steps`, `evaluations` and `output_loss`.

    Raises:
        ValueError: a clip that is too long, or a baseline over a host that runs its own solver.
        ImportError, OSError: a restorer's package or weights are not here.
    """
    steps = plan.described.get("num_inference_steps") or adapter.requirements.default_steps
    common = {
        "versions": versions(),
        "host": {"name": adapter.name, **adapter.describe()},
        "steps": steps,
        "guidance_scale": plan.described.get("guidance_scale"),
        "prompt": plan.prompt,
        "metrics": list(plan.metrics),
    }
    if plan.alone:
        common["described"] = _described(plan)
    reuses = reused_by(plan, adapter)
    arms, shared = arms_of(plan, strengths_of(plan, adapter)), SharedEncode(adapter)
    restoring = restorers if restorers is not None else Restorers.of(plan.restorers)

    def rows(clip: InputClip, missing: list[Arm]) -> Iterator[tuple[Arm, Row]]:
        shared.forget()

        def kept(arm: Arm, frames: torch.Tensor) -> Row:
            # Under this name a cell whose file is gone counts as missing.
            path = keep(clip, arm, keys(clip)[arm], frames) if keep is not None else None
            return {} if path is None else {"clip": path}

        refining = [arm for arm in missing if arm.method not in restoring]
        yield from restoring.rows(clip, plan, [arm for arm in missing if arm.method in restoring], kept)
        if plan.alone:
            yield from ((arm, _alone(shared, clip, plan, arm, kept)) for arm in refining)
        else:
            yield from Bench(adapter, clip, plan, kept).rows(refining)

    def keys(clip: InputClip) -> dict[Arm, str]:
        return {
            arm: restoring.key(clip, plan, arm)
            if arm.method in restoring
            else cell_key(clip=clip.digest, arm=arm.as_dict(), **common, **reused(arm))
            for arm in arms
        }

    def reused(arm: Arm) -> Row:
        # Absent without reuse: cells from before it was the default stay good, and are never taken for these.
        return {"reuses": True} if reuses and arm.method in ("nc", "matched_sdedit") else {}

    work = (Work(clip.name, keys(clip), partial(rows, clip)) for clip in clips)
    return [
        {
            **{"refiner": adapter.name, "clip": clip.name, "label": arm.label, **arm.as_dict()},
            **{"num_inference_steps": steps, **{"video" if key == "clip" else key: row[key] for key in row}},
        }
        for clip, found in zip(clips, finish(work, CellStore(cells), on_cell), strict=True)
        for arm, row in found.items()
    ]


def _described(plan: PlanBase) -> Row:
    """What is set but reuse, a mask by what identifies it: another mask under the same name gives other cells."""
    found = {name: value for name, value in plan.described.items() if name != "reuse_prediction"}
    return {**found, **({"mask": as_mask(found["mask"]).describe()} if "mask" in found else {})}


def _alone(
    adapter: SharedEncode, clip: InputClip, plan: PlanBase, arm: Arm, kept: Callable[[Arm, torch.Tensor], Row]
) -> Row:
    """One arm run by itself, for settings under which arms have no latents in common; only the encode is shared."""
    settings = {"prompt": plan.prompt, "strength": arm.strength, **plan.described}
    cutoff = 1.0 if arm.cutoff is None else arm.cutoff
    described = {**settings, "iterations": arm.iterations or 0, "cutoff": cutoff}
    calibration = NoiseCalibration(**calibration_fields(described))
    settings = {field.name: settings[field.name] for field in fields(RefineSettings) if field.name in settings}
    chosen = RefineSettings(**settings)
    given = VideoClip(clip.frames, clip.fps)
    refined: RefinedClip
    if arm.method in BASELINES:
        refined = BaselineRefiner(adapter, arm.method, cutoff, calibration)(given, seed=arm.seed or 0, **settings)
    else:
        refined = CalibratedRefiner(adapter, calibration)(given, seed=arm.seed, **settings)
    receipt = refined.receipt
    row: Row = {"steps": len(receipt["timesteps"]), "evaluations": sum(receipt["evaluations"].values())}
    if receipt.get("content_loss"):
        row["content_loss"] = list(receipt["content_loss"])
    if arm.method == "trace":
        return row
    if arm.method == "input":
        row = {"evaluations": 0}
    names = (*plan.metrics, *(("psnr_to_original",) if clip.original is not None else ()))
    original = None if clip.original is None else resized(clip.original, chosen)
    measured = measure_frames(resized(clip.frames, chosen), refined.clip.frames, names, original=original)
    return {**row, **measured, **kept(arm, refined.clip.frames)}


def keeper(folder: Path, which: str, first_seed: int) -> Keep:
    """A `keep` for `run_plan`: writes below `folder`/clips what `which` says: `all`, `first_seed` or `none`."""

    def keep(clip: InputClip, arm: Arm, key: str, frames: torch.Tensor) -> str | None:
        if which == "none" or (which == "first_seed" and arm.seed not in (None, first_seed)):
            return None
        facts = "_".join(f"{name}-{value}" for name, value in arm.as_dict().items() if value is not None)
        # The key tells apart what two refiners of one name made of it.
        path = Path(KEPT) / clip.name / f"{facts}_{key[:8]}.mp4"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with video.FrameWriter(folder / path, clip.fps) as writer:
            writer.write(frames)
        return path.as_posix()

    return keep
