"""The folder of an offline experiment: what is in it, read back as observations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..statistics.observations import Observation

__all__ = ["INPUT_CLIP", "MANIFEST", "Results", "read_results", "record_path", "trusted_record"]

MANIFEST = "experiment.json"
INPUT_CLIP = "_input.mp4"
"""The refined unit, beside its outputs; no arm's name starts with an underscore."""
FIELDS = ("unit", "source", "arm", "seed", "metrics")


def record_path(folder: Path, unit: str, seed: int, arm: str) -> Path:
    """Where the record of one output is."""
    return folder / "runs" / f"{unit}.s{seed}" / f"{arm}.json"


def trusted_record(path: Path) -> dict[str, Any] | None:
    """The record at `path`; None where there is none, or where what it names is missing."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(record, dict) or any(field not in record for field in FIELDS):
        return None
    clip = record.get("clip")
    return record if clip is None or (path.parent / clip).is_file() else None


@dataclass(frozen=True)
class Results:
    """What a folder holds.

    Attributes:
        folder: where it is.
        manifest: the experiment as it was started.
        records: one per output that is there, by unit, seed and arm, in the order of the experiment.
    """

    folder: Path
    manifest: dict[str, Any]
    records: dict[tuple[str, int, str], dict[str, Any]]

    @property
    def config(self) -> dict[str, Any]:
        """The experiment's configuration, with defaults filled in."""
        config: dict[str, Any] = self.manifest["config"]
        return config

    @property
    def units(self) -> dict[str, str]:
        """Every unit of the experiment → the clip it is a part of."""
        return {unit: clip for clip, entry in self.manifest["clips"].items() for unit in entry["units"]}

    @property
    def planned(self) -> int:
        """How many outputs the experiment has when it is complete."""
        return len(self.units) * len(self.config["seeds"]) * len(self.config["arms"])

    @property
    def complete(self) -> bool:
        """Whether every output is there."""
        return len(self.records) == self.planned

    def observations(self) -> list[Observation]:
        """Every number that was measured; the order of units is that of the experiment, not of the clock."""
        name = self.config["experiment"]
        return [
            Observation(name, unit, arm, metric, float(value), pair=f"{unit}.s{seed}", seed=seed)
            for (unit, seed, arm), record in self.records.items()
            for metric, value in record["metrics"].items()
        ]

    def clip(self, unit: str, arm: str | None) -> Path | None:
        """A kept output of `arm` for the unit (None: its input), of the first seed that has one."""
        for seed in self.config["seeds"]:
            folder = record_path(self.folder, unit, seed, arm or "_").parent
            path = folder / (f"{arm}.mp4" if arm is not None else INPUT_CLIP)
            if path.is_file():
                return path
        return None


def read_results(folder: Path) -> Results:
    """Read the folder of `nc-refiner ab run`, finished or not.

    Raises:
        ValueError: it is not such a folder.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        config, clips = manifest["config"], manifest["clips"]
        units = [unit for entry in clips.values() for unit in entry["units"]]
        keys = [(unit, seed, arm) for unit in units for seed in config["seeds"] for arm in config["arms"]]
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no {MANIFEST}; give the folder of an `ab run`, or a database URL") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST} is not the record of an experiment ({error!r})") from None
    found = {key: trusted_record(record_path(folder, *key)) for key in keys}
    return Results(folder, manifest, {key: record for key, record in found.items() if record is not None})
