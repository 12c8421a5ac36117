"""Finished cells on disk, the folder of an experiment read back, and the table of a sweep.

A cell is one output's row under a key of everything that decides it: what is stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluation.extras import needs
from ...files import AtomicFile, write_text
from ..statistics.observations import Observation

__all__ = [
    "CELLS",
    "INPUT_CLIP",
    "KEPT",
    "MANIFEST",
    "CellStore",
    "Results",
    "cell_key",
    "clip_folder",
    "output_key",
    "read_results",
    "write_parquet",
]

CELLS, KEPT, MANIFEST = "cells", "clips", "experiment.json"
INPUT_CLIP = "_input.mp4"
"""The refined clip, beside its outputs; no arm's name starts with an underscore."""

FORMAT = 1


def cell_key(**facts: Any) -> str:
    """A name for what `facts` decide; JSON-ready values."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CellStore:
    """One small JSON file per cell below `folder`; several runs, also at the same time, may share it.

    Raises:
        FileError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """The row stored under `key`; None where there is none that can be read, or the clip it names is missing."""
        return _row(self._folder / f"{key}.json", self._folder.parent)

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Store `row`, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._folder / f"{key}.json", json.dumps(row, allow_nan=False)).commit()


def _row(path: Path, clips: Path) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    clip = row.get("clip")
    return row if clip is None or (clips / str(clip)).is_file() else None


def output_key(experiment: str, unit: str, seed: int, arm: str) -> str:
    """The key of one output of the experiment whose manifest has the key `experiment`."""
    return cell_key(experiment=experiment, unit=unit, seed=seed, arm=arm)


def clip_folder(unit: str, seed: int) -> str:
    """Where the kept clips of one unit and seed are, relative to the experiment's folder."""
    return f"runs/{unit}.s{seed}"


@dataclass(frozen=True)
class Results:
    """What a folder holds.

    Attributes:
        folder: where it is.
        manifest: the experiment as it was started.
        records: one per output that is there, by unit, seed and arm, in the order of the experiment; `clip` is the
            file of a kept output, relative to the folder.
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
        """Every number that was measured, in the order of the experiment, not of the clock.

        Independent of each other are clips, not the pieces that they are cut into: the unit is the clip.
        """
        name, clip_of = self.config["experiment"], self.units
        return [
            Observation(name, clip_of[unit], arm, metric, float(value), pair=f"{unit}.s{seed}", seed=seed)
            for (unit, seed, arm), record in self.records.items()
            for metric, value in record["metrics"].items()
        ]

    @property
    def segments(self) -> tuple[str, dict[str, str]]:
        """What makes a segment, `tag` or `folder`, and every clip's; a clip without a tag is in none where others have
        one."""
        given = dict(zip(self.manifest["clips"], self.config["clips"], strict=True))
        tags = {clip: str(entry["tag"]) for clip, entry in given.items() if entry.get("tag")}
        if tags:
            return "tag", tags
        folders = {clip: Path(entry["path"]).parent for clip, entry in given.items() if entry["path"] != "demo"}
        names = {folder: folder.name or "." for folder in folders.values()}
        if len(set(names.values())) < len(names):
            names = {folder: folder.as_posix() for folder in names}
        return "folder", {clip: names[folder] for clip, folder in folders.items()}

    def clip(self, unit: str, arm: str | None) -> Path | None:
        """A kept output of `arm` for the clip `unit` (None: its input), of the first piece and seed that have one."""
        name = f"{arm}.mp4" if arm is not None else INPUT_CLIP
        pieces = [piece for piece, clip in self.units.items() if clip == unit]
        found = (self.folder / clip_folder(piece, seed) / name for piece in pieces for seed in self.config["seeds"])
        return next((path for path in found if path.is_file()), None)


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
    cells, experiment = CellStore(folder / CELLS), cell_key(manifest=manifest)
    found = {}
    for unit, seed, arm in keys:
        record = cells.get(output_key(experiment, unit, seed, arm))
        if record is None:
            # As the first format kept it, beside its clip.
            there = clip_folder(unit, seed)
            record = _row(folder / there / f"{arm}.json", folder / there)
            if record is not None and record.get("clip") is not None:
                record["clip"] = f"{there}/{record['clip']}"
        if record is not None and record.keys() >= {"source", "metrics"}:
            found[unit, seed, arm] = record
    return Results(folder, manifest, found)


TEXTS = ("plan", "refiner", "clip", "label", "method", "video")
WHOLE = ("iterations", "seed", "num_inference_steps", "steps", "evaluations")
SERIES = ("content_loss",)


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `rows`, whole or not at all; what a row lacks is null. Columns keep their order of first appearance.

    Raises:
        ImportError: pyarrow is not installed. VideoError: `path` cannot be written.
    """
    with needs("pyarrow", "pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    names = list(dict.fromkeys(name for row in rows for name in row))

    def kind(name: str) -> Any:
        if name in TEXTS:
            return pa.string()
        if name in WHOLE:
            return pa.int64()
        return pa.list_(pa.float64()) if name in SERIES else pa.float64()

    schema = pa.schema([(name, kind(name)) for name in names])
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=schema)
    with AtomicFile(path) as file:
        pq.write_table(table, file.temporary)
        file.commit()
