"""What calibration costs outside the model, as a share of one model evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.calibration import NoiseCalibration, calibrate

from .timing import interleaved, ratio

__all__ = ["measure_overhead"]


def measure_overhead(
    adapter: RefinerAdapter,
    size: tuple[int, int, int],
    cutoffs: Sequence[float],
    iterations: Sequence[int],
    repeats: int,
) -> dict[str, Any]:
    """Time `calibrate` with a prediction that is looked up against one real `predict_x0`, interleaved.

    Args:
        adapter: the host; its default strength decides the timestep.
        size: frames, height, width of the clip in pixels.

    Returns:
        `evaluation_ms`, and `rows` of `cutoff`, `iterations`, `calibrate_ms` and `share`, the median of calibration
        time over evaluation time.
    """
    frames, height, width = size
    generator = torch.Generator().manual_seed(0)
    needs = adapter.requirements
    timestep = adapter.timesteps(needs.default_steps, needs.default_strength).first
    level = adapter.noise_level(timestep)
    condition = adapter.condition()
    reference = adapter.encode(torch.rand(frames, 3, height, width, generator=generator), generator)
    x_t = level.add_noise(reference, torch.randn(reference.shape, generator=generator).to(reference))

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            return adapter.predict_x0(x_t, timestep, condition)

    known = evaluate()
    cases = [(cutoff, n) for cutoff in cutoffs for n in iterations]
    candidates: dict[str, Callable[[], object]] = {"evaluation": evaluate}
    for case in cases:
        config = NoiseCalibration(cutoff=case[0], iterations=case[1])
        candidates[str(case)] = partial(calibrate, x_t, reference, level, lambda _: known, config)
    times = interleaved(candidates, repeats)
    evaluation = times["evaluation"]
    rows = [
        {
            "cutoff": cutoff,
            "iterations": n,
            "calibrate_ms": times[str((cutoff, n))].wall_ms,
            "share": ratio(times[str((cutoff, n))].wall, evaluation.wall),
        }
        for cutoff, n in cases
    ]
    return {"clip": list(size), "evaluation_ms": evaluation.wall_ms, "rows": rows}
