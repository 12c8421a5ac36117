"""What an A/B test adds to a request: cheap arms called directly and through `ABRefiner`, side by side."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nc_refiner.calibration import CalibrationTrace
from nc_refiner.clip import VideoClip
from nc_refiner.experiment import ABRefiner, Guardrails
from nc_refiner.refiner import RefinedClip

from .tables import table

__all__ = ["add_arguments", "measure", "run"]

BAR_MS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `ab`."""
    parser.add_argument("--requests", type=int, default=10_000, help="requests per variant (default 10000)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(arguments: argparse.Namespace) -> int:
    """Measure and write the report; 0."""
    if arguments.requests < 1:
        raise ValueError(f"--requests is {arguments.requests}; it must be at least 1")
    result = measure(arguments.requests)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if arguments.json else render(result))
    return 0


def measure(requests: int) -> dict[str, Any]:
    """Milliseconds added per request by each variant; each is made directly, then routed."""
    clip = VideoClip(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    refined = RefinedClip(clip, CalibrationTrace((0.5, 0.25)), {"content_loss": [0.5, 0.25]})

    def arm(clip: VideoClip, **settings: Any) -> RefinedClip:
        return refined

    def other(clip: VideoClip, **settings: Any) -> RefinedClip:
        return refined

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        variants: dict[str, dict[str, Any]] = {
            "routing alone": {},
            "recorded in SQLite": {"store": Path(folder) / "a.db"},
            "recorded, durable": {"store": Path(folder) / "c.db", "durable": True},
            "recorded, time budget": {"store": Path(folder) / "b.db", "guardrails": Guardrails(seconds=10)},
        }
        for name, options in variants.items():
            direct, routed = [], []
            with ABRefiner({"control": arm, "nc": other}, "benchmark", **options) as ab:
                for i in range(requests):
                    start = time.perf_counter()
                    arm(clip, seed=i)
                    between = time.perf_counter()
                    ab(clip, seed=i, unit=f"unit-{i}")
                    end = time.perf_counter()
                    direct.append(between - start)
                    routed.append(end - between)
            added = sorted(1000 * (b - a) for a, b in zip(direct, routed, strict=True))
            rows.append(
                {
                    "variant": name,
                    "median_ms": statistics.median(added),
                    "p90_ms": added[int(0.90 * (len(added) - 1))],
                    "p99_ms": added[int(0.99 * (len(added) - 1))],
                }
            )
    met = all(row["median_ms"] < BAR_MS for row in rows)
    return {"requests": requests, "rows": rows, "bar_ms": BAR_MS, "met": met}


def render(result: dict[str, Any]) -> str:
    """The report for people."""
    rows = [
        [row["variant"], *(f"{row[key]:.3f}" for key in ("median_ms", "p90_ms", "p99_ms"))] for row in result["rows"]
    ]
    title = f"Added per request, ms ({result['requests']} requests without a pause, arms that cost nothing)"
    verdict = "met" if result["met"] else "missed"
    return table(title, ["variant", "median", "p90", "p99"], rows) + f"bar: median below {BAR_MS} ms: {verdict}\n"
