"""The offline experiment: arms × clips × seeds, paired, and resumable at every moment."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import video
from ..adapters.registry import create
from ..evaluation.meters import Models
from ..receipt import versions
from ..refinement import Refinement
from ..video.atomic import write_text
from .config import ExperimentConfig
from .measure import measure, require
from .results import INPUT_CLIP, MANIFEST, record_path, trusted_record
from .shared_encode import SharedEncode
from .units import Source, Unit, sources

__all__ = ["OfflineRun"]

LOCK = ".lock"


@dataclass(frozen=True)
class _Task:
    """One output that is still to be made."""

    arm: str
    unit: Unit
    seed: int
    record: Path


class OfflineRun:
    """One experiment in one folder; `run` finishes whatever an earlier call left undone.

    Args:
        config: the experiment.
        base: folder that its paths are relative to.
        folder: where results are; made if need be.
        device: torch device for every adapter; default: the adapter's own choice.

    Raises:
        ValueError: bad clips or options, or a folder that holds another experiment.
        ImportError, FileNotFoundError: a metric lacks its package or its weights.
    """

    def __init__(self, config: ExperimentConfig, base: Path, folder: Path, device: str | None = None):
        self.config, self.folder = config, folder
        self.sources = sources(config.clips, base)
        self._device = {"device": device} if device is not None else {}
        self._adapters: dict[str, SharedEncode] = {}
        self._models = Models(**{name: base / path for name, path in config.weights.items()}, device=device or "cpu")
        require(config.metrics, self._models)
        for name in config.arms:
            self._adapter(name)
        self.manifest = self._manifest()
        self._check_folder()

    def _adapter(self, arm: str) -> SharedEncode:
        """The adapter of an arm; arms with equal options share one, and so its encoded clips."""
        options = dict(self.config.arms[arm].adapter or self.config.adapter)
        key = json.dumps(options, sort_keys=True, default=str)
        if key not in self._adapters:
            name = options.pop("name")
            try:
                self._adapters[key] = SharedEncode(create(name, **options, **self._device))
            except TypeError as error:
                raise ValueError(f"arm {arm}: the adapter {name} does not take these options: {error}") from error
        return self._adapters[key]

    def _manifest(self) -> dict[str, Any]:
        """All that results depend on, and what the analysis needs to know."""
        from .. import __version__

        return {
            "format": 1,
            "nc_refiner": __version__,
            "config": json.loads(self.config.model_dump_json()),
            "clips": {source.name: {**source.digests, "units": list(source.units)} for source in self.sources},
            "adapters": {arm: self._adapter(arm).describe() for arm in self.config.arms},
            "versions": versions(),
            "device": {arm: str(self._adapter(arm).device) for arm in self.config.arms},
        }

    def _check_folder(self) -> None:
        path = self.folder / MANIFEST
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; give a folder with --output")
        if not path.exists():
            if self.folder.is_dir() and any(child.name != LOCK for child in self.folder.iterdir()):
                raise ValueError(f"{self.folder} is not empty and holds no experiment; choose another --output")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({error}); choose another --output") from None
        changed = list(_differences(before, self.manifest))
        if changed:
            raise ValueError(
                f"{self.folder} holds results of another experiment (different: {', '.join(changed[:3])}); "
                "choose another --output, or remove it"
            )

    @property
    def outputs(self) -> int:
        """How many outputs the experiment has."""
        return sum(len(source.units) for source in self.sources) * len(self.config.seeds) * len(self.config.arms)

    def run(self, on_step: Callable[[str], None] | None = None) -> int:
        """Make what is missing; `on_step` is called with a name once per output. Returns how many were made.

        Raises:
            ValueError: a clip cannot be read, settings do not fit the adapter, or another run is at work.
            RuntimeError: the model failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        made = 0
        with _locked(self.folder / LOCK):
            for leftover in self.folder.rglob(".*.part"):
                leftover.unlink(missing_ok=True)
            if not (self.folder / MANIFEST).exists():
                _write(self.folder / MANIFEST, self.manifest)
            number = 0
            for source in self.sources:
                for unit in self._units(source):
                    for seed in self.config.seeds:
                        tasks = self._tasks(unit, seed, backwards=number % 2 == 1)
                        for task in tasks:
                            self._one(task)
                            made += 1
                        for adapter in self._adapters.values():
                            adapter.forget()
                        for _ in self.config.arms:
                            if on_step is not None:
                                on_step(unit.name)
                        number += 1
        return made

    def _units(self, source: Source) -> Iterator[Unit]:
        """Units of a clip, decoded only if one of its outputs is missing."""
        missing = any(
            trusted_record(record_path(self.folder, unit, seed, arm)) is None
            for unit in source.units
            for seed in self.config.seeds
            for arm in self.config.arms
        )
        if missing:
            yield from source.read()

    def _tasks(self, unit: Unit, seed: int, backwards: bool) -> list[_Task]:
        """What is missing of a pair; every other pair starts with the last arm, so that none is always warm."""
        tasks = [_Task(arm, unit, seed, record_path(self.folder, unit.name, seed, arm)) for arm in self.config.arms]
        return [task for task in (reversed(tasks) if backwards else tasks) if trusted_record(task.record) is None]

    def _one(self, task: _Task) -> None:
        config, unit = self.config, task.unit
        arm, adapter = config.arms[task.arm], self._adapter(task.arm)
        settings = arm.settings(config.shared(), _noise_seed(unit.name, task.seed))
        run = Refinement(adapter, arm.calibration(), settings)
        output = _joined(run, unit.frames)
        receipt = run.receipt()
        values = measure(config.metrics, unit.frames, output, unit.original, receipt, self._models)
        if "content_loss" in config.metrics:
            values["content_loss"] = adapter.content_loss(self._cutoff())
        task.record.parent.mkdir(parents=True, exist_ok=True)
        clip = None
        if config.keep_clips == "all" or (config.keep_clips == "first_seed" and task.seed == config.seeds[0]):
            clip = task.record.with_suffix(".mp4")
            reference = task.record.parent / INPUT_CLIP
            with ExitStack() as stack:
                writers = {clip: output} if reference.exists() else {clip: output, reference: unit.frames}
                for path, frames in writers.items():
                    stack.enter_context(video.FrameWriter(path, unit.fps)).write(frames)
        # The record comes last: where it is, everything it names is too.
        _write(
            task.record,
            {
                "unit": unit.name,
                "source": unit.source,
                "arm": task.arm,
                "seed": task.seed,
                "at": time.time(),
                "metrics": values,
                "clip": clip.name if clip is not None else None,
                "receipt": receipt,
            },
        )

    def _cutoff(self) -> float:
        """One band for every arm's content loss: the widest that any of them calibrates."""
        used = []
        for name, arm in self.config.arms.items():
            calibration = arm.calibration().resolved(self._adapter(name).requirements.default_cutoff)
            if calibration.iterations and calibration.cutoff is not None:
                used.append(calibration.cutoff)
        return max(used, default=1.0)


def _noise_seed(unit: str, seed: int) -> int:
    """Another seed for every unit: were noise shared by all of them, they would not be independent."""
    return int.from_bytes(hashlib.sha256(f"{unit} {seed}".encode()).digest()[:8], "big") >> 1


def _joined(run: Refinement, frames: Tensor) -> Tensor:
    import torch

    return torch.cat(list(run.run(frames, len(frames))))


def _write(path: Path, data: dict[str, Any]) -> None:
    with write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n") as file:
        file.commit()


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Dotted names of what differs between two JSON values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif before != now:
        yield where


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the folder for one process; where the system has no such locks it goes without."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{path.parent}: another run is at work there; wait for it or stop it") from None
        yield
