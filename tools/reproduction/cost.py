"""What calibration costs beside 30 denoising steps: evaluations counted, seconds measured."""

from __future__ import annotations

from typing import Any

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.sweeps import SweepClip

__all__ = ["measure_cost"]

STRENGTH, SCHEDULE = 0.6, 50
REPEATS = 3


def measure_cost(adapter: RefinerAdapter, clip: SweepClip) -> dict[str, Any]:
    """N = 0…3 over the paper's 30 steps, on two frames of one clip.

    Returns:
        `steps` (of denoising), `share_of_evaluations` and `share_of_seconds` (N → calibration's over plain SDEdit's
        whole run; seconds are the least of `REPEATS`), `repeats`.
    """
    frames = VideoClip(clip.frames[:2])
    evaluations: dict[int, int] = {}
    seconds: dict[int, float] = {}
    plain, steps = float("inf"), 0
    for count in (0, 1, 2, 3):
        # As published: every prediction is its own.
        refiner = CalibratedRefiner(adapter, NoiseCalibration(iterations=count, reuse_prediction=False))
        for _ in range(REPEATS):
            receipt = refiner(frames, seed=0, strength=STRENGTH, num_inference_steps=SCHEDULE).receipt
            steps = len(receipt["timesteps"])
            evaluations[count] = sum(receipt["evaluations"].values())
            seconds[count] = min(seconds.get(count, float("inf")), receipt["seconds"]["calibrate"])
            if count == 0:
                plain = min(plain, sum(receipt["seconds"].values()))
    return {
        "steps": steps,
        "repeats": REPEATS,
        "share_of_evaluations": {count: evaluations[count] / evaluations[0] - 1 for count in (1, 2, 3)},
        "share_of_seconds": {count: seconds[count] / plain for count in (1, 2, 3)},
    }
