"""The run receipt: what a refinement did, as plain data that can be written beside its output and repeated."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict  # of pydantic's needs: the standard one is too young before 3.12

from .._version import __version__
from ..adapters.base import RefinerAdapter
from ..files import FileError, read_text, write_text
from .plan import RefinePlan

__all__ = ["Receipt", "history_line", "peak_memory_bytes", "planned", "read_receipt", "versions", "write_receipt"]


MAX_BYTES = 64 << 20


class Receipt(TypedDict, total=False):
    """What a refinement says about itself; JSON-ready.

    Attributes:
        versions: of what a result may depend on.
        adapter: `name`, `device`, and what the adapter's `describe` says.
        calibration: fields of `NoiseCalibration`, a mask by digest or name; absent where a baseline was run.
        baseline: `method`, `cutoff`, `calibration`; present where a baseline was run.
        settings: fields of `RefineSettings`, `strength` as it was run.
        num_inference_steps, timesteps: of the schedule, and those that were run.
        content_loss: per iteration, averaged over windows that are calibrated one by one.
        windows, seams: `first`, `frames` (and `content_loss`) of every window; frames that neighbours share.
        evaluations: of the host's network, by stage.
        seconds, peak_memory_bytes: by stage; of the process or the device so far.
        keep: of a target: what was asked, reached, tried, and what it cost.
        degradations: what a person must know: padding, windows, options that were ignored.
        input, reading, output, files: of the command line: the file that was read, how, and what was written.
    """

    versions: dict[str, str]
    adapter: dict[str, Any]
    calibration: dict[str, Any]
    baseline: dict[str, Any]
    settings: dict[str, Any]
    num_inference_steps: int
    timesteps: list[float]
    content_loss: list[float]
    windows: list[dict[str, Any]]
    seams: list[list[int]]
    evaluations: dict[str, int]
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    degradations: list[str]
    keep: dict[str, Any]
    input: dict[str, Any]
    reading: dict[str, Any]
    output: str
    files: list[str]


def planned(plan: RefinePlan) -> Receipt:
    """What is known of a run before it starts."""
    adapter: RefinerAdapter = plan.adapter
    # With a target every window has its own strength; what was asked for is where a repeat begins to search.
    strength = plan.timesteps.strength if plan.settings.keep is None else plan.settings.strength
    return {
        "versions": versions(),
        "adapter": {"name": adapter.name, "device": str(adapter.device), **adapter.describe()},
        "calibration": plan.calibration.described(),
        "settings": {**asdict(plan.settings), "strength": strength, "start_timestep": None},
        "num_inference_steps": plan.timesteps.num_inference_steps,
        "timesteps": plan.timesteps.values.tolist(),
    }


def history_line(name: str, iterations: int, seed: int, content_loss: Sequence[float]) -> str:
    """The line that a refinement adds to its clip's history."""
    loss = " ".join(f"{value:.4f}" for value in content_loss) or "–"
    return f"{name} refiner, N={iterations}, seed {seed}, content loss {loss}"


def versions() -> dict[str, str]:
    """Versions a result may depend on."""
    return {
        "nc_refiner": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory so far: allocated on a CUDA device, resident for this process on a CPU; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a program inherits that from whatever large process started it.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def write_receipt(receipt: Receipt | dict[str, Any], path: Path) -> None:
    """Write as JSON, whole or not at all; raises `FileError`, and ValueError for numbers that JSON cannot hold."""
    write_text(path, json.dumps(receipt, indent=2, allow_nan=False) + "\n").commit()


def read_receipt(path: Path) -> Receipt:
    """Read a receipt back, its parts checked to be what they should be.

    Raises:
        ValueError: no such file, not JSON, or not a refinement's receipt.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        if not path.exists():
            raise ValueError(f"no receipt at {path}; receipts are written beside an output as NAME.receipt.json")
        found = json.loads(read_text(path, MAX_BYTES, "a receipt"))
    except (FileError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a receipt ({error}); pass the .receipt.json beside an output") from error
    if not isinstance(found, dict) or not {"settings", "calibration", "adapter"} <= found.keys():
        raise ValueError(f"{path} is JSON but not a receipt; pass the .receipt.json beside an output")
    try:
        TypeAdapter(Receipt).validate_python(found)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{path} cannot be repeated ({place}: {problem['msg']}); pass the options") from None
    receipt: Receipt = found  # type: ignore[assignment]  # what else it holds is kept
    return receipt
