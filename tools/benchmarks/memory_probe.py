"""Refine the demo clip once in this fresh process and write its peak memory as JSON; started by `benchmarks.memory`.

Arguments, all whole numbers: iterations, frames, height, steps of the schedule, threads.
"""

from __future__ import annotations

import json
import sys

import torch

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.assets import demo_clip
from nc_refiner.calibration import NoiseCalibration
from nc_refiner.refiner import CalibratedRefiner
from nc_refiner.refining.fit import fit
from nc_refiner.refining.receipt import peak_memory_bytes
from nc_refiner.video import read_clip


def main() -> None:
    """Run once; standard output is one JSON object."""
    iterations, frames, height, steps, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    adapter = EmbeddedRefiner(device="cpu")
    clip = read_clip(demo_clip()[0], max_frames=frames, height=height)
    ready = peak_memory_bytes(adapter.device) or 0
    refiner = CalibratedRefiner(adapter, NoiseCalibration(iterations=iterations))
    refiner(clip, seed=0, num_inference_steps=steps)
    sizes = {"peak": peak_memory_bytes(adapter.device) or 0, "ready": ready}
    latent = adapter.encode(fit(clip.frames, adapter.requirements)[0])
    sizes["latent"] = latent.numel() * latent.element_size()
    sys.stdout.write(json.dumps({**sizes, "clip": [len(clip), clip.height, clip.width]}))


if __name__ == "__main__":
    main()
