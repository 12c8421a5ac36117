"""The metrics' own sanity check: the clips that the method's authors published, where NC should win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nc_refiner.evaluation.measure import measure

__all__ = ["SERIES", "measure_published"]

METRICS = ("mse", "mse_low", "ssim", "spatial_frequency", "clipped_shift")
SERIES = ("sdedit", "nc_1", "nc_2", "nc_3", "nc_10")


def measure_published(folder: Path, max_frames: int | None = None) -> list[dict[str, Any]]:
    """Rows `pair`, `output` and the metrics, for every published output in `folder`; none where it is absent.

    The references are half the size of the outputs and are resized to them (antialiased bicubic).
    """
    rows = []
    for reference in sorted(folder.glob("*_reference.mp4")):
        pair = reference.name.removesuffix("_reference.mp4")
        for name in (*SERIES, "nc"):
            output = folder / f"{pair}_{name}.mp4"
            if output.is_file():
                found = measure(reference, output, METRICS, max_frames=max_frames)
                rows.append({"pair": pair, "output": name, "frames": found.alignment.frames, **found.metrics})
    return rows
