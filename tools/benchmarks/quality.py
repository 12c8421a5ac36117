"""Model evaluations of SDEdit and of calibration, counted, each beside the fidelity they buy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.calibration import NoiseCalibration
from nc_refiner.evaluation.meters import FidelityMeter
from nc_refiner.refiner import CalibratedRefiner

from .clips import EvaluationClip

__all__ = ["VARIANTS", "measure_quality"]

VARIANTS: tuple[tuple[str, NoiseCalibration], ...] = (
    ("SDEdit", NoiseCalibration(iterations=0)),
    *((f"N = {n}", NoiseCalibration(iterations=n, reuse_prediction=False)) for n in (1, 2, 3)),
    *((f"N = {n}, reuse", NoiseCalibration(iterations=n, reuse_prediction=True)) for n in (1, 2, 3)),
)
MEASURES = ("mse", "ssim", "psnr")


def measure_quality(
    adapter: RefinerAdapter,
    clips: Sequence[EvaluationClip],
    num_inference_steps: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Refine every clip by every variant from the same seed.

    Returns:
        `clips` (names and sizes), `steps` (denoising steps S), `input` (`mse`, `ssim`, `psnr` of the unrefined
        input) and `variants`: `name`, `evaluations` and `expected` per clip (S, S + N, or S + N − 1 with reuse),
        `mse` and `ssim` to the input, `psnr` to the original, each the mean over clips, and the values `per_clip`.
    """
    calibrations = dict(VARIANTS)
    steps = 0
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in calibrations}
    for clip in clips:
        for name, calibration in calibrations.items():
            progress(f"{clip.name}: {name}")
            refiner = CalibratedRefiner(adapter, calibration)
            result = refiner(clip.degraded, seed=0, num_inference_steps=num_inference_steps)
            # A clip longer than a window is denoised window by window, and every count is per window.
            windows = len(result.receipt["windows"])
            steps = len(result.receipt["timesteps"])
            extra = calibration.iterations - bool(calibration.reuse_prediction)
            found[name].append(
                {
                    "clip": clip.name,
                    "evaluations": sum(result.receipt["evaluations"].values()),
                    "expected": windows * (steps + extra),
                    **_fidelity(clip, result.clip.frames),
                }
            )
    return {
        "clips": [{"name": clip.name, "shape": list(clip.original.shape)} for clip in clips],
        "steps": steps,
        "input": _mean([_fidelity(clip, clip.degraded.frames) for clip in clips], MEASURES),
        "variants": [
            {"name": name, **_mean(rows, ("evaluations", "expected", *MEASURES)), "per_clip": rows}
            for name, rows in found.items()
        ],
    }


def _fidelity(clip: EvaluationClip, frames: Tensor) -> dict[str, float | None]:
    to_input, to_original = FidelityMeter(), FidelityMeter()
    to_input.add(clip.degraded.frames, frames)
    to_original.add(clip.original, frames)
    near, true = to_input.result(), to_original.result()
    return {"mse": near["mse"], "ssim": near["ssim"], "psnr": true["psnr"]}


def _mean(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float | None]:
    mean: dict[str, float | None] = {}
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        mean[name] = sum(values) / len(values) if values else None
    return mean
