"""An experiment in one folder: every arm on every clip and seed, finished by whatever number of runs."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ... import video
from ...adapters.registry import create
from ...evaluation.catalogue import FIDELITY, METRICS, TO_ORIGINAL
from ...evaluation.measure import measure_frames
from ...evaluation.meters import Models
from ...files import write_text
from ...refining.plan import settled
from ...refining.receipt import versions
from ...refining.resize import resized
from ...refining.run import Refinement
from .clips import InputClip, Source, each_clip, sources
from .config import ExperimentConfig
from .restoring import Restorers
from .results import CELLS, INPUT_CLIP, MANIFEST, CellStore, cell_key, clip_folder, output_key
from .shared_encode import SharedEncode
from .work import Row, Work, finish

__all__ = ["OfflineRun"]

LOCK = ".lock"


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
        self.config = config = config.model_copy(update={"clips": each_clip(config.clips, base)})
        self.folder, self.sources = folder, sources(config.clips, base)
        self._device = {"device": device} if device is not None else {}
        self._adapters: dict[str, SharedEncode] = {}
        self._models = Models(**{name: base / path for name, path in config.weights.items()}, device=device or "cpu")
        self._models.require(config.metrics)
        restoring = {name: arm.restorer for name, arm in config.arms.items() if arm.restorer is not None}
        self._restorers = Restorers.built(restoring)
        self._refining = [name for name in config.arms if name not in self._restorers]
        for name in self._refining:
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
        from ... import __version__

        config, reuses = json.loads(self.config.model_dump_json()), self._reuses()
        for clip in config["clips"]:
            # A clip without a tag is the clip that it was before there were tags: its outputs stay good.
            if clip["tag"] is None:
                del clip["tag"]
        for arm in config["arms"].values():
            # Likewise an arm that refines.
            if arm["restorer"] is None:
                del arm["restorer"]
        return {
            "format": 2,
            "nc_refiner": __version__,
            "config": config,
            **({"reuse_prediction": reuses} if reuses else {}),
            "clips": {source.name: {**source.digests, "units": list(source.pieces)} for source in self.sources},
            "adapters": {arm: self._adapter(arm).describe() for arm in self._refining},
            "versions": versions(),
            "device": {arm: str(self._adapter(arm).device) for arm in self._refining},
            **self._restorers.described(),
        }

    def _reuses(self) -> dict[str, bool]:
        """The arms that reuse a prediction: what the file leaves open was no before, and outputs must not be mixed."""
        found = {}
        for name in self._refining:
            adapter, arm = self._adapter(name), self.config.arms[name]
            calibration = arm.calibration(adapter.requirements.default_cutoff)
            scale = arm.settings(self.config.shared(), 0).guidance_scale
            found[name] = bool(settled(adapter, calibration, scale).reuse_prediction)
        return {name: True for name, reused in found.items() if reused}

    def _check_folder(self) -> None:
        path = self.folder / MANIFEST
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; give a folder with --output")
        if not path.exists():
            # One that was stopped before it wrote its manifest has begun nothing else.
            if self.folder.is_dir() and any(
                child.name != LOCK and child.suffix != ".part" for child in self.folder.iterdir()
            ):
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
        return sum(len(source.pieces) for source in self.sources) * len(self.config.seeds) * len(self.config.arms)

    def run(self, on_step: Callable[[str], None] = lambda clip: None) -> int:
        """Make what is missing; `on_step` is called with a clip's name once per output. Returns how many were made.

        Raises:
            ValueError: a clip cannot be read, settings do not fit the adapter, or another run is at work.
            RuntimeError: the model failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made = 0
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                for leftover in self.folder.rglob(".*.part"):
                    leftover.unlink(missing_ok=True)
                if not (self.folder / MANIFEST).exists():
                    text = json.dumps(self.manifest, indent=1, allow_nan=False) + "\n"
                    write_text(self.folder / MANIFEST, text).commit()
                for _ in finish(self._work(), CellStore(self.folder / CELLS), on_step):
                    for adapter in self._adapters.values():
                        adapter.forget()
        except Timeout:
            raise ValueError(f"{self.folder}: another run is at work there; wait for it or stop it") from None
        return self._made

    def _work(self) -> Iterator[Work[str]]:
        """A piece of work per unit and seed; every other one starts with the last arm, so that none is always warm."""
        experiment, number = cell_key(manifest=self.manifest), 0
        for source in self.sources:
            decoded: dict[str, InputClip] = {}
            for unit in source.pieces:
                for seed in self.config.seeds:
                    arms = list(self.config.arms)[:: -1 if number % 2 else 1]
                    keys = {arm: output_key(experiment, unit, seed, arm) for arm in arms}
                    yield Work(unit, keys, partial(self._rows, source, unit, seed, decoded))
                    number += 1

    def _rows(
        self, source: Source, unit: str, seed: int, decoded: dict[str, InputClip], arms: list[str]
    ) -> Iterator[tuple[str, Row]]:
        if not decoded:
            # Decoded only if one of its outputs is missing.
            decoded |= {clip.name: clip for clip in source.read()}
        for arm in arms:
            yield arm, self._row(decoded[unit], seed, arm)
            self._made += 1

    def _row(self, clip: InputClip, seed: int, name: str) -> Row:
        """Refine `clip` with one arm, keep the output where it is to be kept, and measure it."""
        config, arm = self.config, self.config.arms[name]
        settings = arm.settings(config.shared(), _noise_seed(clip.name, seed))
        adapter = None if name in self._restorers else self._adapter(name)
        if adapter is None:
            output, receipt = self._restorers.run(name, clip, settings)
        else:
            run = Refinement(adapter, arm.calibration(adapter.requirements.default_cutoff), settings)
            output = torch.cat(list(run.run(clip.frames, len(clip.frames))))
            receipt = dict(run.receipt())
        # Compared with the input at the size it was refined at.
        original = None if clip.original is None else resized(clip.original, settings)
        clip = replace(clip, frames=resized(clip.frames, settings), original=original)
        kept = None
        if config.keep_clips == "all" or (config.keep_clips == "first_seed" and seed == config.seeds[0]):
            kept = self._keep(clip, seed, name, output)
        return {
            "unit": clip.name,
            "source": clip.source,
            "arm": name,
            "seed": seed,
            "at": time.time(),
            "metrics": self._measured(clip, output, receipt, adapter),
            "clip": kept,
            "receipt": receipt,
        }

    def _measured(
        self, clip: InputClip, output: torch.Tensor, receipt: dict[str, Any], adapter: SharedEncode | None
    ) -> dict[str, float]:
        """Metric → value; what cannot be measured is left out."""
        wanted = [name for name in self.config.metrics if name in METRICS]
        wanted += [name + TO_ORIGINAL for name in wanted if name in FIDELITY]
        found = measure_frames(clip.frames, output, wanted, self._models, clip.original)
        # Without the encode, which arms share.
        found["seconds"] = sum(value for stage, value in receipt["seconds"].items() if stage != "encode")
        if adapter is not None:
            found["evaluations"] = float(sum(receipt["evaluations"].values()))
            if "content_loss" in self.config.metrics:
                found["content_loss"] = adapter.content_loss(self._cutoff())
        names = {*self.config.metrics, *wanted}
        return {k: v for k, v in found.items() if k in names and v is not None and math.isfinite(v)}

    def _keep(self, clip: InputClip, seed: int, arm: str, output: torch.Tensor) -> str:
        """Write an output, and once per pair its input; the file's name relative to the folder."""
        there = self.folder / clip_folder(clip.name, seed)
        there.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for path, frames in ((there / f"{arm}.mp4", output), (there / INPUT_CLIP, clip.frames)):
                if path.name != INPUT_CLIP or not path.exists():
                    stack.enter_context(video.FrameWriter(path, clip.fps)).write(frames)
        return f"{clip_folder(clip.name, seed)}/{arm}.mp4"

    def _cutoff(self) -> float:
        """One band for every arm's content loss: the widest that any of them calibrates."""
        calibrations = [
            self.config.arms[name].calibration(self._adapter(name).requirements.default_cutoff)
            for name in self._refining
        ]
        used = [calibration.cutoff for calibration in calibrations if calibration.iterations]
        return max(used, default=1.0)


def _noise_seed(unit: str, seed: int) -> int:
    """Another seed for every unit: were noise shared by all of them, they would not be independent."""
    return int.from_bytes(hashlib.sha256(f"{unit} {seed}".encode()).digest()[:8], "big") >> 1


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Dotted names of what differs between two JSON values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif before != now:
        yield where
