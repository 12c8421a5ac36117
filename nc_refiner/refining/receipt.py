"""The run receipt: what a refinement did, as plain data that can be written beside its output and repeated."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from .._version import __version__

__all__ = ["peak_memory_bytes", "read_receipt", "versions", "write_receipt"]


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


def write_receipt(receipt: dict[str, Any], path: Path) -> None:
    """Write as JSON to a temporary name, then rename; numbers that JSON cannot hold are refused."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(receipt, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_receipt(path: Path) -> dict[str, Any]:
    """Read a receipt back.

    Raises:
        ValueError: no such file, not JSON, or not a refinement's receipt.
    """
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"no receipt at {path}; receipts are written beside an output as NAME.receipt.json") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a receipt ({error}); pass the .receipt.json beside an output") from error
    if not isinstance(receipt, dict) or not {"settings", "calibration", "adapter"} <= receipt.keys():
        raise ValueError(f"{path} is JSON but not a receipt; pass the .receipt.json beside an output")
    return receipt
