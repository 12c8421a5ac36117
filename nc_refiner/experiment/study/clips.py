"""The clips of a study: from the folder of an offline run, or from one folder of clips per arm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...files import VIDEO_SUFFIXES
from ..offline.results import INPUT_CLIP, MANIFEST, Results, clip_folder, read_results

__all__ = ["Item", "Material", "read_material"]

INPUT = "input"
"""The folder of inputs, where there is one folder of clips per arm."""
# An animation is no clip that a browser plays in step.
SUFFIXES = VIDEO_SUFFIXES - {".gif"}


@dataclass(frozen=True)
class Item:
    """One input and what every arm made of it.

    Attributes:
        pair: its name; `UNIT.sSEED` of an offline run, as in the run's measurements.
        clip: the clip it was cut from; items of one clip are not independent.
        input: the file of the input.
        outputs: arm → the file of its output, for every arm of the study.
    """

    pair: str
    clip: str
    input: Path
    outputs: dict[str, Path]

    def digest(self) -> str:
        """Of the bytes of all its files, so that votes on other clips under the same name are told."""
        total = hashlib.sha256()
        for _, path in sorted({"": self.input, **self.outputs}.items()):
            with path.open("rb") as file:
                while block := file.read(2**20):
                    total.update(block)
        return total.hexdigest()


@dataclass(frozen=True)
class Material:
    """What raters are shown.

    Attributes:
        name: of the experiment, or of the folder.
        arms: at least two; every pair of them is compared.
        control: the one that shares are stated against.
        items: at least one.
        skipped: names of items that lack the output of an arm.
    """

    name: str
    arms: tuple[str, ...]
    control: str
    items: tuple[Item, ...]
    skipped: tuple[str, ...] = ()


def read_material(folder: Path, arms: Sequence[str] | None = None) -> Material:
    """The clips in `folder`.

    Args:
        folder: of an `ab run`; or one that holds `input/` and a folder per arm, with clips of equal names.
        arms: those to compare; by default all. In a plain folder the first one is the control.

    Raises:
        ValueError: no such folder, fewer than two arms, an unknown arm, or no item that every arm has a clip of.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give the folder of an `ab run`, or of clips")
    if arms is not None and len(set(arms)) < len(arms):
        raise ValueError(f"--arms {','.join(arms)}: an arm is named twice")
    if (folder / MANIFEST).exists():
        return _from_run(read_results(folder), arms)
    return _from_folders(folder, arms)


def _chosen(arms: Sequence[str] | None, there: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(there if arms is None else arms)
    unknown = [arm for arm in chosen if arm not in there]
    if unknown:
        raise ValueError(f"there is no arm {unknown[0]!r}; there are {', '.join(there) or 'none'}")
    if len(chosen) < 2:
        raise ValueError(f"a study compares at least two arms, found {', '.join(chosen) or 'none'}")
    return chosen


def _from_run(results: Results, arms: Sequence[str] | None) -> Material:
    config = results.config
    chosen = _chosen(arms, list(config["arms"]))
    items, skipped = [], []
    for unit, clip in results.units.items():
        item = next((found for seed in config["seeds"] if (found := _of_seed(results, unit, clip, seed, chosen))), None)
        if item is None:
            skipped.append(unit)
        else:
            items.append(item)
    if not items:
        raise ValueError(
            f"{results.folder} holds no unit with a clip of every arm; finish the run, with keep_clips: first_seed"
        )
    control = config["control"] if config["control"] in chosen else chosen[0]
    return Material(config["experiment"], chosen, control, tuple(items), tuple(skipped))


def _of_seed(results: Results, unit: str, clip: str, seed: int, arms: tuple[str, ...]) -> Item | None:
    """The unit with one seed; None unless the input and every arm's output were kept."""
    outputs = {}
    for arm in arms:
        record = results.records.get((unit, seed, arm))
        if record is None or record.get("clip") is None:
            return None
        outputs[arm] = results.folder / record["clip"]
    source = results.folder / clip_folder(unit, seed) / INPUT_CLIP
    return Item(f"{unit}.s{seed}", clip, source, outputs) if source.is_file() else None


def _from_folders(folder: Path, arms: Sequence[str] | None) -> Material:
    inputs = _clips(folder / INPUT)
    if not inputs:
        raise ValueError(
            f"{folder} is not the folder of an `ab run`, and has no clips in {INPUT}/; a plain folder holds {INPUT}/ "
            "and a folder per arm, with clips of equal names"
        )
    there = [path.name for path in sorted(folder.iterdir()) if path.name != INPUT and _clips(path)]
    chosen = _chosen(arms, there)
    outputs = {arm: _clips(folder / arm) for arm in chosen}
    items = [
        Item(name, name, path, {arm: outputs[arm][name] for arm in chosen})
        for name, path in inputs.items()
        if all(name in outputs[arm] for arm in chosen)
    ]
    if not items:
        raise ValueError(f"{folder}: no clip in {INPUT}/ has one of the same name in each of {', '.join(chosen)}")
    done = {item.pair for item in items}
    skipped = sorted({*inputs, *(name for arm in chosen for name in outputs[arm])} - done)
    return Material(folder.resolve().name, chosen, chosen[0], tuple(items), tuple(skipped))


def _clips(folder: Path) -> dict[str, Path]:
    """Name without suffix → file."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()}
