"""A batch on Ray beside a run in one process: clips a minute, what Ray adds to a clip, memory as clips grow.

Each measurement is a process of its own. Throughput leaves out the start: it counts from the first clip on.
Measure on a quiet machine with as many free cores as workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from .tables import table

__all__ = ["CHEAP", "REAL", "add_arguments", "measure", "run"]

REAL = {
    "base": {"type": "embedded", "frames": 8, "height": 64, "width": 96, "num_inference_steps": 6},
    "interpolation": {"type": "blend", "factor": 2},
    "refiner": {"type": "nc", "iterations": 2, "num_inference_steps": 12, "strength": 0.5},
}
"""About a second a clip on one core: what Ray adds is small beside it."""
CHEAP = {"base": {"type": "embedded", "frames": 1, "height": 32, "width": 32, "num_inference_steps": 2}}
"""A few hundredths of a second a clip: what Ray adds is most of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this sub-command."""
    parser.add_argument("--clips", type=int, default=40, help="of the throughput")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2], help="numbers of workers")
    parser.add_argument("--cheap-clips", type=int, default=200, help="of what Ray adds to a clip")
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="numbers of cheap clips to see memory at")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--one", help=argparse.SUPPRESS)


def measure(stages: dict[str, Any], clips: int, workers: int) -> dict[str, float]:
    """Run `clips` clips through `stages` in another process.

    Args:
        stages: kind → options.
        clips: how many.
        workers: on Ray; 0: no Ray, one process.

    Returns:
        `start`: seconds until the first clip is through; `seconds`: from there to the last, a clip; `driver` and
        `workers`: peak memory in MiB, of all workers together with their model processes.
    """
    given = json.dumps({"stages": stages, "clips": clips, "workers": workers})
    command = [sys.executable, str(Path(__file__).parents[1] / "benchmark.py"), "ray", "--one", given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["the run failed"])[-1])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _one(given: dict[str, Any]) -> dict[str, float]:
    """The measurement, in this process."""
    from nc_refiner.cascade import CascadeRunner, parse_config
    from nc_refiner.config.document import Document

    prompts = [f"clip {index}" for index in range(given["clips"])]
    config = parse_config(Document("benchmark", {"version": 1, "seed": 1, "prompt": prompts, **given["stages"]}))
    through: list[float] = []
    began, over, peaks = time.perf_counter(), threading.Event(), [0.0]
    with tempfile.TemporaryDirectory() as name:
        if given["workers"] == 0:
            CascadeRunner(config, output=Path(name) / "out").run()
            # One process goes stage by stage, so that there is no first clip: all of it, models loaded once, counts.
            spent = time.perf_counter() - began
            return {"start": 0.0, "seconds": spent / len(prompts), "driver": _peak(), "workers": 0.0}
        from nc_refiner.cascade.cluster import ClusterRunner

        def watch(event: dict[str, Any]) -> None:
            if event["event"] == "clip":
                if event["status"] != "done":
                    raise ValueError(event["error"])
                through.append(time.perf_counter())

        watcher = threading.Thread(target=_watch_memory, args=(over, peaks), daemon=True)
        watcher.start()
        ClusterRunner(config, workers=given["workers"], output=Path(name) / "out", watch=watch).run()
        over.set()
        watcher.join()
    # Each worker's first clip loads its model.
    first = min(given["workers"], len(through) - 2)
    pace = (through[-1] - through[first]) / (len(through) - 1 - first)
    return {"start": through[0] - began, "seconds": pace, "driver": _peak(), "workers": peaks[0]}


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _watch_memory(over: threading.Event, peaks: list[float]) -> None:
    while not over.wait(1.0):
        total = 0.0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                    if b"ray::MapWorker" in line or b"nc_refiner.cascade.cluster.child" in line:
                        total += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                except (OSError, IndexError):
                    continue
        peaks[0] = max(peaks[0], total)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    if arguments.one:
        sys.stdout.write(json.dumps(_one(json.loads(arguments.one))) + "\n")
        return 0
    counts = [0, *arguments.actors]
    found: dict[str, Any] = {
        "real": {str(count): measure(REAL, arguments.clips, count) for count in counts},
        "cheap": {str(count): measure(CHEAP, arguments.cheap_clips, count) for count in (0, 1)},
        "memory": {str(clips): measure(CHEAP, clips, max(arguments.actors)) for clips in arguments.memory},
    }
    added = found["cheap"]["1"]["seconds"] - found["cheap"]["0"]["seconds"]
    found["added_seconds_per_clip"] = added
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    sys.stdout.write(_tables(found, arguments))
    return 0


def _tables(found: dict[str, Any], arguments: argparse.Namespace) -> str:
    one = found["real"].get("1", found["real"]["0"])["seconds"]
    rows = [
        [
            "one process" if count == "0" else f"{count} on Ray",
            f"{60 / got['seconds']:.1f}",
            f"{one / got['seconds']:.2f}",
            f"{got['start']:.1f}",
            f"{got['driver']:.0f}",
            f"{got['workers']:.0f}",
        ]
        for count, got in found["real"].items()
    ]
    header = ["workers", "clips/min", "× one", "start, s", "driver, MiB", "workers, MiB"]
    text = table(f"Throughput, {arguments.clips} clips of the embedded cascade", header, rows)
    cheap = [
        [
            "one process" if count == "0" else f"{count} on Ray",
            f"{1000 * got['seconds']:.0f}",
        ]
        for count, got in found["cheap"].items()
    ]
    cheap.append(["Ray adds", f"{1000 * found['added_seconds_per_clip']:.0f}"])
    text += table(f"Milliseconds a clip, {arguments.cheap_clips} cheap clips", ["", "ms"], cheap)
    if found["memory"]:
        grown = [[clips, f"{got['driver']:.0f}", f"{got['workers']:.0f}"] for clips, got in found["memory"].items()]
        text += table("Peak memory, MiB", ["clips", "driver", "workers"], grown)
    return text
