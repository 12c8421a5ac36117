"""`nc-refiner tune`: learns how far refinements of one host go, from a few clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter
from ..calibration_options import NoiseCalibration
from ..evaluation.measure import measure_frames
from ..evaluation.meters import Models
from .fidelity import Fidelity
from .keeping.ladder import Ladder
from .keeping.probe import first_estimate
from .keeping.tuning import HEIGHTS, Line, Tuning, fitted
from .run import Refinement
from .settings import RefineSettings

__all__ = ["METRICS", "runs_for", "tune"]

METRICS: tuple[str, ...] = ("ssim", "psnr", "mse_low", "delta_e")
"""What is tuned for; LPIPS too where its weights are given."""
SAMPLE: dict[str, float] = {"ssim": 0.5}


def runs_for(clips: int) -> int:
    """How many refinements `tune` will make."""
    return clips * len(HEIGHTS)


def tune(
    adapter: RefinerAdapter,
    clips: Iterable[Tensor],
    calibration: NoiseCalibration,
    settings: RefineSettings,
    metrics: Sequence[str] = METRICS,
    models: Models | None = None,
    on_run: Callable[[], None] = lambda: None,
) -> Tuning:
    """Refine every clip at every rung and fit the lines.

    Args:
        adapter: the host.
        clips: `(F, 3, H, W)` in [0, 1], each at most one window long; such as will be refined.
        calibration: N and ν of the ladder's lower half.
        settings: as for every later run; `strength` is the strongest allowed.
        metrics: of `METRICS`, or `lpips`.
        models: weights, for `lpips`.
        on_run: called after each refinement.

    Raises:
        ValueError: no clip, or none on which a metric can be measured.
    """
    models = models or Models()
    ladder = Ladder.of(adapter.requirements, replace(settings, strength=None), calibration, settings.strength)
    points: dict[str, dict[float, list[tuple[float, float]]]] = {name: {} for name in metrics}
    count = 0
    for frames in clips:
        count += 1
        first = measure_frames(frames, first_estimate(adapter, ladder, frames), metrics, models)
        for height in HEIGHTS:
            rung = ladder.rung(height)
            run = Refinement(adapter, rung.calibration, rung.settings)
            output = torch.cat(list(run.run(frames, len(frames))))
            found = measure_frames(frames, output, metrics, models)
            for name in metrics:
                before, after = first[name], found[name]
                if before is None or after is None:
                    continue
                distance = Fidelity.of({name: SAMPLE.get(name, 1.0)}).distance
                points[name].setdefault(height, []).append((math.log(distance(before)), math.log(distance(after))))
            on_run()
    if not count:
        raise ValueError("tune needs at least one clip")
    lines = {
        name: tuple(Line(height, *fitted(pairs)) for height, pairs in sorted(by_height.items()))
        for name, by_height in points.items()
        if len(by_height) == len(HEIGHTS)
    }
    if not lines:
        raise ValueError("no metric can be measured on these clips; give larger ones")
    return Tuning(adapter.name, ladder.strongest, calibration.iterations, calibration.cutoff, count, lines)
