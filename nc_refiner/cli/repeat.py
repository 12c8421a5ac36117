"""`refine --from-receipt`: a receipt turned back into the options of the run it describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..calibration import NoiseCalibration
from ..refining.receipt import read_receipt
from ..refining.run import RefineSettings

__all__ = ["Repeated", "differences", "repeat"]


@dataclass(frozen=True)
class Repeated:
    """What a receipt decides: the refiner's name, how it ran, how the input was read; and the receipt itself."""

    refiner: str
    calibration: NoiseCalibration
    settings: RefineSettings
    max_frames: int | None
    height: int | None
    receipt: dict[str, Any]


def repeat(path: Path) -> Repeated:
    """Read the receipt at `path`.

    Raises:
        ValueError: no such file, not a receipt, or one with fields this version does not know.
    """
    receipt = read_receipt(path)
    try:
        # The number of steps that was run, where the settings leave it to a default that may change.
        settings = {**receipt["settings"], "num_inference_steps": receipt["num_inference_steps"]}
        reading = receipt.get("reading", {})
        return Repeated(
            str(receipt["adapter"]["name"]),
            NoiseCalibration(**receipt["calibration"]),
            RefineSettings(**settings),
            reading.get("max_frames"),
            reading.get("height"),
            receipt,
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is a receipt that cannot be repeated ({reason}); pass the options instead") from error


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for everything beside the settings in which two receipts differ, and so their pixels may."""
    found = []
    if before.get("input", {}).get("sha256") != now["input"]["sha256"]:
        found.append("the receipt was made from another input; its settings were used on this one")
    for part in ("versions", "adapter"):
        old, new = before.get(part, {}), now[part]
        keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        changed = [f"{key} {old.get(key)} → {new.get(key)}" for key in keys]
        if changed:
            found.append(f"not as in the receipt: {', '.join(changed)}; pixels may differ")
    return found
