"""Stock against N = 1, 2, 3 side by side in one run: seconds, network evaluations and, on a GPU, peak memory."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.calibration import NoiseCalibration, calibrate
from nc_refiner.refining.receipt import peak_memory_bytes

__all__ = ["ITERATIONS", "compare", "lines", "measure_adapter", "write_json"]

ITERATIONS = (0, 1, 2, 3)
Row = dict[str, Any]


def compare(
    subjects: Mapping[str, Callable[[], int]], device: torch.device, repeats: int, facts: Mapping[str, Any]
) -> list[Row]:
    """Call every subject `repeats` times, in turn, so that a drift of the machine meets all alike.

    Args:
        subjects: name → a call that returns how often it evaluated the network; the first is stock.
        device: where they run.
        repeats: rounds, at least 1; nothing is called to warm up.
        facts: what stands in every row.

    Returns:
        A row each: `run`, `evaluations`, `seconds` (the median) and `peak_bytes`; `overhead_time`,
        `overhead_evaluations` and `overhead_memory` are shares of stock's. Memory is None on a CPU, where a process has
        one high-water mark for all its calls.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    rows: dict[str, Row] = {}
    for _ in range(repeats):
        for name, subject in subjects.items():
            gc.collect()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
            start = time.perf_counter()
            evaluations = subject()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start)
            peak = peak_memory_bytes(device) if device.type == "cuda" else None
            rows[name] = {**facts, "run": name, "evaluations": evaluations, "peak_bytes": peak}
    for name, row in rows.items():
        row["seconds"] = round(statistics.median(seconds[name]), 4)
    stock = rows[next(iter(subjects))]
    for row in rows.values():
        row["overhead_time"] = round(row["seconds"] / max(stock["seconds"], 1e-4) - 1, 4)
        row["overhead_evaluations"] = round(row["evaluations"] / stock["evaluations"] - 1, 4)
        known = row["peak_bytes"] is not None
        row["overhead_memory"] = round(row["peak_bytes"] / stock["peak_bytes"] - 1, 5) if known else None
    return list(rows.values())


def measure_adapter(
    adapter: RefinerAdapter, shape: tuple[int, ...], steps: int, strength: float, repeats: int, **facts: Any
) -> list[Row]:
    """`compare` of an adapter's whole trajectory from random latents of `shape`, after one evaluation to warm up.

    Every row also has `facts`, `steps`, `strength` and `guided_evaluations`, how many guided estimates calibration
    asked for.
    """
    device, timesteps = adapter.device, adapter.timesteps(steps, strength)
    condition = adapter.condition("a camel walking in the desert")
    reference, noise = (torch.randn(shape, generator=torch.Generator().manual_seed(k)).to(device) for k in (0, 1))
    level = adapter.noise_level(timesteps.first)
    x_t = level.add_noise(reference, noise)
    adapter.predict_x0(x_t, timesteps.first, condition)
    asked: dict[int, int] = {}

    def run(iterations: int) -> int:
        before, asked[iterations] = adapter.evaluations, 0

        def predict(latents: Tensor) -> Tensor:
            asked[iterations] += 1
            return adapter.predict_x0(latents, timesteps.first, condition)

        done = calibrate(x_t, reference, level, predict, NoiseCalibration(iterations=iterations))
        adapter.denoise(done.x_t, timesteps, condition, generator=torch.Generator().manual_seed(2))
        return adapter.evaluations - before

    subjects = {f"N={n}" if n else "stock": lambda n=n: run(n) for n in ITERATIONS}
    rows = compare(subjects, device, repeats, {**facts, "steps": steps, "strength": strength})
    for row, iterations in zip(rows, ITERATIONS, strict=True):
        row["guided_evaluations"] = asked[iterations]
    return rows


def lines(rows: list[Row], label: str = "") -> str:
    """One aligned line for each row; it starts with the row's value of `label`, where one is named."""
    texts = []
    for row in rows:
        start = f"{row[label]:<13}" if label else ""
        guided = f", {row['guided_evaluations']} guided more" if row.get("guided_evaluations") else ""
        memory = "–"
        if row["peak_bytes"] is not None:
            memory = f"{row['peak_bytes'] / 2**30:.2f} GiB ({row['overhead_memory']:+.2%})"
        texts.append(
            f"{start}{row['run']:<7}{row['seconds']:>9.3f} s ({row['overhead_time']:+.1%})  "
            f"{row['evaluations']} evaluations ({row['overhead_evaluations']:+.1%}{guided})  {memory}\n"
        )
    return "".join(texts)


def write_json(path: Path, device: torch.device, rows: list[Row], **facts: Any) -> None:
    """The rows, and what they were measured on and with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found = {"torch": torch.__version__, "device": name, **facts, "rows": rows}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
