"""The metrics' own sanity check: the clips that the method's authors published, where NC should win."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from nc_refiner.evaluation.measure import measure
from nc_refiner.experiment.offline.results import CellStore, cell_key
from nc_refiner.refining.receipt import versions

__all__ = ["SERIES", "measure_published"]

METRICS = ("mse", "mse_low", "ssim", "spatial_frequency", "clipped_shift")
SERIES = ("sdedit", "nc_1", "nc_2", "nc_3", "nc_10")


def measure_published(folder: Path, cells: Path, max_frames: int | None = None) -> list[dict[str, Any]]:
    """Rows `pair`, `output`, `frames` and the metrics, for every published output in `folder`.

    The references are half the size of the outputs and are resized to them (antialiased bicubic). What is finished is
    kept in the folder `cells`.
    """
    store = CellStore(cells)
    rows = []
    for reference in sorted(folder.glob("*_reference.mp4")):
        pair = reference.name.removesuffix("_reference.mp4")
        for name in (*SERIES, "nc"):
            output = folder / f"{pair}_{name}.mp4"
            if not output.is_file():
                continue
            key = cell_key(
                files=[hashlib.sha256(path.read_bytes()).hexdigest() for path in (reference, output)],
                metrics=list(METRICS),
                max_frames=max_frames,
                versions=versions(),
            )
            row = store.get(key)
            if row is None:
                found = measure(reference, output, METRICS, max_frames=max_frames)
                row = {"frames": found.alignment.frames, **found.metrics}
                store.put(key, row)
            rows.append({"pair": pair, "output": name, **row})
    return rows
