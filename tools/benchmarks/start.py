"""How long a command takes to start: help, and `refine` until its first step, beside what importing torch takes."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nc_refiner.video import FrameWriter

from .tables import table

__all__ = ["add_arguments", "measure_start", "run"]

PROGRAM = [sys.executable, "-X", "importtime", "-m", "nc_refiner"]
TORCH = re.compile(r"import time:\s+\d+ \|\s+(\d+) \|\s+torch$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this sub-command."""
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _until(command: list[str], mark: str | None, folder: Path) -> tuple[float, float]:
    """Seconds until `mark` stands on standard error (None: until the end), and those that importing torch took."""
    torch_seconds, start = 0.0, time.perf_counter()
    with subprocess.Popen(
        [*PROGRAM, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            found = TORCH.match(line)
            if found:
                torch_seconds = max(torch_seconds, int(found[1]) / 1e6)
            if mark is not None and mark in line:
                break
        seconds = time.perf_counter() - start
        process.kill()
    return seconds, torch_seconds


def measure_start(repeats: int) -> dict[str, dict[str, float]]:
    """Medians of `repeats` starts: `seconds` in all, `torch` to import it, `rest`."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FrameWriter(folder / "in.mp4", 8) as writer:
            writer.write(torch.rand((4, 3, 64, 64), generator=torch.Generator().manual_seed(0)))
        for label, command, mark in (
            ("nc-refiner --help", ["--help"], None),
            ("nc-refiner refine --help", ["refine", "--help"], None),
            ("refine, first step", ["refine", "in.mp4", "out.mp4"], "0 of "),
        ):
            times = [_until(command, mark, folder) for _ in range(repeats)]
            total, part = (statistics.median(column) for column in zip(*times, strict=True))
            found[label] = {"seconds": total, "torch": part, "rest": total - part}
    return found


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    found: dict[str, Any] = measure_start(arguments.repeats)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    rows = [[name, *(f"{row[key]:.2f}" for key in ("seconds", "torch", "rest"))] for name, row in found.items()]
    title = f"Start, seconds (median of {arguments.repeats}; with -X importtime, which costs a little)"
    sys.stdout.write(table(title, ["", "in all", "torch", "rest"], rows))
    return 0
