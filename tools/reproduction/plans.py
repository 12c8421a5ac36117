"""What is run: the paper's settings and method (no prediction is used again), at the strengths that the embedded model
is used and trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from embedded_training.evaluate import clips_in

from nc_refiner.sweeps import SweepClip, SweepPlan

__all__ = [
    "DEFAULT_STRENGTH",
    "EVERY",
    "GRID_CUTOFFS",
    "PAPER_STRENGTH",
    "PAPER_STRENGTHS",
    "PLANS",
    "Size",
    "evaluation_clips",
]

DEFAULT_STRENGTH, PAPER_STRENGTH = 0.4, 0.6
PAPER_STRENGTHS = (0.5, 0.6, 0.7)
GRID_CUTOFFS = (0.0, 0.3, 0.5, 0.7, 1.0)
TABLE_1 = (0, 1, 2, 3, 10)

PLANS = {
    # 8 of the 20 steps that are the model's default.
    "default": SweepPlan(
        iterations=TABLE_1,
        strengths=(DEFAULT_STRENGTH,),
        num_inference_steps=20,
        baselines=("input", "ilvr", "inversion", "renoise", "matched_sdedit"),
        match_iterations=3,
        reuse_prediction=False,
    ),
    # t = 600 of 1000; half as many steps as the default, which keeps the whole run under half an hour of one core.
    "paper": SweepPlan(iterations=TABLE_1, strengths=(PAPER_STRENGTH,), num_inference_steps=15, reuse_prediction=False),
    "grid": SweepPlan(
        iterations=(3,),
        cutoffs=GRID_CUTOFFS,
        strengths=PAPER_STRENGTHS,
        num_inference_steps=15,
        reuse_prediction=False,
    ),
    "trace": SweepPlan(
        iterations=(0,),
        cutoffs=GRID_CUTOFFS[1:],
        strengths=(PAPER_STRENGTH,),
        num_inference_steps=15,
        trace_iterations=10,
        reuse_prediction=False,
    ),
}

EVERY = {"grid": 3, "trace": 3, "restoring": 3}
"""Plans that run on every third clip, as the paper's own ablation does on a part of its videos."""


@dataclass(frozen=True)
class Size:
    """How much is run: `frames` of at most `clips` clips (None: all), originals at most `height` rows high."""

    frames: int = 8
    height: int = 96
    clips: int | None = None


def evaluation_clips(folders: Sequence[Path], size: Size) -> list[SweepClip]:
    """The bundled clip, then those of the folders, degraded as the model's own evaluation does.

    Under a limit the folders take turns, so that a small run has some of each kind.
    """
    per_folder = [list(clips_in([folder], size.frames, size.height))[1:] for folder in folders]
    demo = next(clips_in([], size.frames, size.height))
    turns = chain.from_iterable(zip_longest(*per_folder)) if size.clips is not None else chain.from_iterable(per_folder)
    found = [demo, *(clip for clip in turns if clip is not None)][: size.clips]
    return [SweepClip(clip.name, clip.degraded, clip.original) for clip in found]
