"""A receipt turned back into the run it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..calibration import NoiseCalibration
from ..masks import reopened
from .receipt import Receipt, read_receipt
from .settings import RefineSettings

__all__ = ["RefineRequest", "differences", "repeat"]


@dataclass(frozen=True)
class RefineRequest:
    """One run as it can be asked for in text.

    Attributes:
        refiner: registered name of the adapter.
        calibration, settings: how it runs.
        own_cutoff: nobody named a cutoff, so that the adapter's own takes the place of the calibration's.
        max_frames, height: how the input is read; None: as it is.
        receipt: of the run that is repeated; None for a fresh one.
    """

    refiner: str = "embedded"
    calibration: NoiseCalibration = field(default_factory=NoiseCalibration)
    settings: RefineSettings = field(default_factory=RefineSettings)
    max_frames: int | None = None
    height: int | None = None
    receipt: Receipt | None = None
    own_cutoff: bool = False


def repeat(path: Path) -> RefineRequest:
    """The run that the receipt at `path` describes.

    Raises:
        ValueError: no such file, not a receipt, or one with fields this version does not know.
    """
    receipt = read_receipt(path)
    try:
        # The number of steps that was run, where the settings leave it to a default that may change.
        settings = {**receipt["settings"], "num_inference_steps": receipt["num_inference_steps"]}
        reading = receipt.get("reading", {})
        return RefineRequest(
            str(receipt["adapter"]["name"]),
            _calibration(receipt["calibration"]),
            RefineSettings(**settings),
            reading.get("max_frames"),
            reading.get("height"),
            receipt,
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is a receipt that cannot be repeated ({reason}); pass the options instead") from error


def _calibration(described: Mapping[str, Any]) -> NoiseCalibration:
    mask = described.get("mask")
    return NoiseCalibration(**{**described, "mask": None if mask is None else reopened(mask)})


def differences(before: Receipt, now: Receipt) -> list[str]:
    """One line for everything beside the settings in which two receipts differ, and so their pixels may."""
    found = []
    if before.get("input", {}).get("sha256") != now.get("input", {}).get("sha256"):
        found.append("the receipt was made from another input; its settings were used on this one")
    parts: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (before.get("versions", {}), now["versions"]),
        (before.get("adapter", {}), now["adapter"]),
    ]
    for old, new in parts:
        keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        changed = [f"{key} {old.get(key)} → {new.get(key)}" for key in keys]
        if changed:
            found.append(f"not as in the receipt: {', '.join(changed)}; pixels may differ")
    return found
