"""Runs arms and targets on clips, each output once, resumable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.baselines import Setting, encoded, matched_sdedit
from nc_refiner.calibration import NoiseCalibration, content_loss
from nc_refiner.correction import DECAY
from nc_refiner.evaluation.measure import measure_frames
from nc_refiner.experiment.offline.results import CellStore, cell_key
from nc_refiner.refining.fidelity import Fidelity
from nc_refiner.refining.keeping.tuning import built_in, read_tuning
from nc_refiner.refining.run import Refinement
from nc_refiner.refining.settings import RefineSettings
from nc_refiner.sweeps import SweepClip

from .arms import Arm, Question

__all__ = ["rows_of_question", "rows_of_targets"]

Row = dict[str, Any]
METRICS = ("mse", "mse_low", "ssim", "delta_e", "saturation_shift", "clipped_shift", "spatial_frequency", "flicker")
NEAR = 0.004
"""How near in SSIM a rival must come."""
STEPS = 15
"""Of the whole schedule, half of the default: the questions need shapes, not the last decibel."""


def _measured(clip: SweepClip, output: Tensor) -> Row:
    assert clip.original is not None
    found = measure_frames(
        clip.frames, output, (*METRICS, "psnr_to_original", "ssim_to_original"), original=clip.original
    )
    steady = measure_frames(clip.original, output, ("warping_error",))
    return {**found, **steady}


def _refined(adapter: RefinerAdapter, clip: SweepClip, calibration: NoiseCalibration, settings: RefineSettings) -> Any:
    run = Refinement(adapter, calibration, settings)
    return torch.cat(list(run.run(clip.frames, len(clip.frames)))), run


def rows_of_question(
    adapter: RefinerAdapter, clips: Sequence[SweepClip], name: str, question: Question, cells: CellStore
) -> Iterator[Row]:
    """One row per clip and arm of `question`, called `name`."""
    needs = adapter.requirements
    strength = round(needs.default_strength * question.strength, 4)
    cutoff = needs.default_cutoff if question.cutoff is None else question.cutoff
    settings = RefineSettings(strength=strength, num_inference_steps=STEPS)
    facts = {"question": name, "adapter": adapter.describe() | {"name": adapter.name}, "settings": asdict(settings)}
    for clip in clips:
        losses: dict[str, float] = {}
        for arm in question.arms:
            key = cell_key(clip=clip.digest, arm=_identity(arm), cutoff=cutoff, **facts)
            row = cells.get(key)
            if row is None:
                row = _row(adapter, clip, arm, settings, cutoff, losses)
                cells.put(key, row)
            losses[arm.label] = row["output_loss"]
            yield {"refiner": adapter.name, "question": name, "clip": clip.name, "label": arm.label, **row}


def _identity(arm: Arm) -> Row:
    """The arm as its cell is known by. Without reuse it is not said: cells from when that was the default stay good.
    How fast colour-safe steps shrink is said: it has changed."""
    found = asdict(arm)
    if found["calibration"].get("objective") == "colour_safe":
        found["calibration"]["decay"] = DECAY
    if found["calibration"].get("reuse_prediction") is False:
        del found["calibration"]["reuse_prediction"]
    return found


def _row(
    adapter: RefinerAdapter,
    clip: SweepClip,
    arm: Arm,
    settings: RefineSettings,
    cutoff: float,
    losses: dict[str, float],
) -> Row:
    latents = encoded(adapter, clip.frames, settings.seed)
    before = adapter.evaluations
    if arm.matched is None:
        output, run = _refined(adapter, clip, NoiseCalibration(**{"cutoff": cutoff, **arm.calibration}), settings)
        evaluations = adapter.evaluations - before
        first: Row = {"content_loss": list(run.trace().content_loss)}
    else:
        with torch.no_grad():
            steps = adapter.timesteps(settings.num_inference_steps or STEPS, settings.strength or 1.0)
            setting = Setting.of(adapter, latents, steps, adapter.condition(), settings.seed)
            match = matched_sdedit(setting, losses[arm.matched], cutoff)
            output = latents.how.undo(adapter.decode(match.latents))
        evaluations, first = match.steps, {"matched_strength": match.strength}
    again = encoded(adapter, output, settings.seed).reference
    loss = content_loss(again, latents.reference, cutoff)
    return {"evaluations": evaluations, "output_loss": loss, **first, **_measured(clip, output)}


def rows_of_targets(
    adapter: RefinerAdapter, clips: Sequence[SweepClip], targets: Sequence[float], tuning: Path | None, cells: CellStore
) -> Iterator[Row]:
    """For each clip and SSIM: what `keep` gave, and SDEdit at the strength nearest to the SSIM that was reached."""
    tuned = built_in() if tuning is None else read_tuning(tuning)
    facts = {
        "question": "keep",
        "adapter": adapter.describe() | {"name": adapter.name},
        "tuning": asdict(tuned),
        "named": tuning is not None,
        "reuses": True,
    }
    for whole in clips:
        # Two frames tell SSIM as well as more.
        clip = SweepClip(whole.name, whole.frames[:2], None if whole.original is None else whole.original[:2])
        for target in targets:
            key = cell_key(clip=clip.digest, target=target, **facts)
            row = cells.get(key)
            if row is None:
                row = _kept(adapter, clip, target, tuning)
                cells.put(key, row)
            yield {"refiner": adapter.name, "question": "keep", "clip": clip.name, "target": target, **row}


def _kept(adapter: RefinerAdapter, clip: SweepClip, target: float, tuning: Path | None) -> Row:
    calibration = NoiseCalibration(cutoff=adapter.requirements.default_cutoff)
    settings = RefineSettings(keep=Fidelity(ssim=target), tuning=None if tuning is None else str(tuning))
    output, run = _refined(adapter, clip, calibration, settings)
    record = run.kept
    one = run.evaluations["calibration"] + run.evaluations["denoising"]
    rival = _sdedit_at(adapter, clip, record["reached"], run.settings)
    said = any("keep ssim" in note for note in run.notes)
    return {
        "record": record,
        "cost": record["evaluations"] / one,
        "said": said,
        **{f"keep_{name}": value for name, value in _measured(clip, output).items()},
        **{f"sdedit_{name}": value for name, value in rival.items()},
    }


def _sdedit_at(adapter: RefinerAdapter, clip: SweepClip, wanted: float, settings: RefineSettings) -> Row:
    """SDEdit with its strength sought (secants of log distance over log strength) until its SSIM is `wanted`, in as
    many steps as the settings run."""
    steps = len(adapter.timesteps(settings.num_inference_steps or STEPS, settings.strength or 1.0))
    most = min(1.0, 1.5 * adapter.requirements.default_strength)
    goal = math.log(1 - wanted)
    tried: list[tuple[float, float, float]] = []
    strength = 0.4 * (settings.strength or most)
    best: tuple[float, Tensor] | None = None
    for _ in range(6):
        total = max(steps, round(steps / min(max(strength, 0.01), most)))
        plain = RefineSettings(strength=min(1.0, (steps + 0.5) / total), num_inference_steps=total)
        output, _ = _refined(adapter, clip, NoiseCalibration(iterations=0), plain)
        value = measure_frames(clip.frames, output, ["ssim"])["ssim"]
        assert value is not None
        if best is None or abs(value - wanted) < abs(best[0] - wanted):
            best = value, output
        if abs(value - wanted) < NEAR or any(steps / total == before for _, _, before in tried):
            break
        tried.append((math.log(steps / total), math.log(1 - value), steps / total))
        slope = 1.0
        if len(tried) > 1:
            (x0, y0, _), (x1, y1, _) = sorted(tried, key=lambda point: abs(point[1] - goal))[:2]
            slope = (y1 - y0) / (x1 - x0)
        x, y, _ = min(tried, key=lambda point: abs(point[1] - goal))
        strength = math.exp(x + (goal - y) / max(slope, 0.3))
    assert best is not None
    return _measured(clip, best[1])
