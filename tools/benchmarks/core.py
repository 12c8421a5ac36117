"""The core's promises side by side: filter, calibration time, evaluations and fidelity, peak memory."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.refining.receipt import versions

from . import clips, core_report
from .filters import measure_filter
from .memory import measure_memory
from .overhead import measure_overhead
from .quality import measure_quality

__all__ = ["add_arguments", "run"]

FILTER_SHAPE = (1, 4, 32, 90, 160)
FILTER_CUTOFFS = (0.25, 0.5, 0.75, 1.0)
OVERHEAD_CLIP = (16, 160, 256)
MEMORY_CLIP, SMALL_MEMORY_CLIP, MEMORY_STEPS = (16, 160), (8, 96), 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `core`."""
    parser.add_argument("--threads", type=_positive, default=1, help="torch threads for everything (default 1)")
    parser.add_argument("--repeats", type=_positive, help="timed rounds (default 9; 5 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small clips, few rounds: about two minutes")
    parser.add_argument("--clips", type=Path, help="folder of undegraded clips to evaluate besides the demo")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Measure everything and write the report; 0."""
    result = measure(arguments)
    text = json.dumps(result, indent=2) + "\n" if arguments.json else core_report.render(result)
    sys.stdout.write(text)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, as JSON-ready data with the bars they are held against."""
    quick: bool = arguments.quick
    repeats = arguments.repeats or (5 if quick else 9)
    # Everything below obeys this one number; the memory probes are told it.
    torch.set_num_threads(arguments.threads)
    start, load_before = time.perf_counter(), _load()
    # Bad clips are found before minutes are spent.
    evaluated = [clips.demo(small=quick)]
    if arguments.clips is not None:
        evaluated += clips.from_folder(arguments.clips)
    adapter = EmbeddedRefiner(device="cpu")
    _say("filter step")
    filters = measure_filter(FILTER_SHAPE, FILTER_CUTOFFS, repeats)
    _say("calibration outside the model")
    overhead = measure_overhead(adapter, OVERHEAD_CLIP, (0.5, 1.0), (1, 3), repeats)
    _say("evaluations and fidelity")
    quality = measure_quality(adapter, evaluated, progress=lambda line: _say(f"  {line}"))
    _say("peak memory")
    memory = measure_memory(
        *(SMALL_MEMORY_CLIP if quick else MEMORY_CLIP), MEMORY_STEPS, arguments.threads, repeats=1 if quick else 3
    )
    result: dict[str, Any] = {
        "benchmark": "core",
        "environment": {
            **versions(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_before": load_before,
            "load_after": _load(),
        },
        "settings": {"quick": quick, "repeats": repeats, "filter_shape": list(FILTER_SHAPE)},
        "filter": filters,
        "overhead": overhead,
        "quality": quality,
        "memory": memory,
        "seconds": round(time.perf_counter() - start, 1),
    }
    result["bars"] = core_report.bars(result)
    return result


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
