"""Peak memory of SDEdit and of calibration, each in fresh processes of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import nc_refiner

__all__ = ["measure_memory"]

PROBE = Path(__file__).with_name("memory_probe.py")
ITERATIONS = (0, 3)
ALLOWED = 1.02
EVEN_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc hand every freed tensor back at once; with its own moving threshold the same run differs by 10 %."""


def measure_memory(frames: int, height: int, steps: int, threads: int, repeats: int) -> dict[str, Any]:
    """Refine the first `frames` of the demo clip at `height` pixels by SDEdit and by N = 3, alternating.

    Args:
        steps: of the schedule; few are enough, because every step needs the same memory.
        repeats: fresh processes of each; the median peak is taken.

    Returns:
        Bytes: `sdedit`, `calibrated`, `ready` (model and clip loaded, before refining), `latent`; their `ratio`,
        `allowed` (2 % and one latent over SDEdit) and `clip` (frames, height, width).
    """
    runs: dict[int, list[dict[str, Any]]] = {n: [] for n in ITERATIONS}
    for _ in range(repeats):
        for n in ITERATIONS:
            runs[n].append(_probe(n, frames, height, steps, threads))
    sdedit, calibrated = (statistics.median(run["peak"] for run in runs[n]) for n in ITERATIONS)
    first = runs[0][0]
    return {
        "clip": first["clip"],
        "sdedit": sdedit,
        "calibrated": calibrated,
        "ready": first["ready"],
        "latent": first["latent"],
        "ratio": calibrated / sdedit,
        "allowed": sdedit * ALLOWED + first["latent"],
    }


def _probe(*numbers: int) -> dict[str, Any]:
    # The child must measure the very package this process has imported, installed or not.
    package = str(Path(nc_refiner.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(PROBE), *map(str, numbers)],
        capture_output=True,
        text=True,
        env={**os.environ, **EVEN_HEAP, "PYTHONPATH": paths},
    )
    if done.returncode:
        raise ValueError(f"the memory probe failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
