"""One run behind the page: SDEdit and the calibrated refiner from the same seed, their files, and the comparison."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..assets import demo_clip
from ..calibration import NoiseCalibration
from ..clip import VideoClip
from ..config.refiner import RefinerDescription
from ..evaluation.catalogue import DEFAULT
from ..evaluation.measure import measure
from ..evaluation.report import Report
from ..files import write_text
from ..refiner import CalibratedRefiner
from ..refining.resize import resized
from ..refining.settings import RefineSettings
from ..video import probe, read_clip, write_clip

__all__ = ["Cancelled", "Job", "Limits", "Outcome", "Wanted"]

Progress = Callable[[float, str], None]


class Cancelled(Exception):
    """The person at the page asked for it."""


@dataclass(frozen=True)
class Limits:
    """What one run may ask of this machine.

    Attributes:
        megabytes: of the uploaded file.
        frames: read from it.
        height: of the frames, in pixels; larger clips are made smaller.
    """

    megabytes: int = 100
    frames: int = 48
    height: int = 720


@dataclass(frozen=True)
class Wanted:
    """What the person chose.

    Attributes:
        source: video or picture; None is the bundled clip.
        description: the refiner and its settings, as a cascade's `refiner:` has them.
        seed: of every random draw, 0 to 2⁶³ − 1.
        frames: read at most so many.
        height: resize to this height, in pixels; None keeps the clip's own.
        prompt: for refiners that take one.
    """

    source: Path | None = None
    description: RefinerDescription = field(default_factory=lambda: RefinerDescription.model_validate({}))
    seed: int = 0
    frames: int = 16
    height: int | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        clip, sdedit, source, receipt: files.
        report: the comparison as one HTML page.
        content_loss: at every prediction of the calibration.
        notes: what a person must know.
    """

    clip: Path
    sdedit: Path
    source: Path
    receipt: Path
    report: str
    content_loss: tuple[float, ...]
    notes: tuple[str, ...]


class Job:
    """Runs what is wanted, one at a time: models stay loaded, and a device has one run.

    Args:
        limits: see `Limits`.
        create: name and options of an adapter → a refiner; default: `CalibratedRefiner.from_name`.
    """

    def __init__(self, limits: Limits | None = None, create: Callable[..., CalibratedRefiner] | None = None):
        self.limits = limits or Limits()
        self._create = create or CalibratedRefiner.from_name
        self._refiners: dict[str, CalibratedRefiner] = {}
        self._turn = threading.Lock()

    def run(self, wanted: Wanted, folder: Path, progress: Progress, cancelled: threading.Event) -> Outcome:
        """Refine twice, compare, and write everything into `folder`.

        Args:
            wanted: what the person chose.
            folder: exists, and is this run's alone.
            progress: called with the share that is done, 0 to 1, and a word for what is going on.
            cancelled: once set, the run ends within one model evaluation.

        Raises:
            Cancelled: it was.
            ValueError: a file that cannot be read or is too large, or settings that do not fit.
            ImportError, RuntimeError: the refiner cannot be built, or its model failed.
        """
        progress(0.0, "waiting for its turn")
        while not self._turn.acquire(timeout=0.2):
            _stop(cancelled)
        try:
            return self._run(wanted, folder, progress, cancelled)
        finally:
            self._turn.release()

    def _run(self, wanted: Wanted, folder: Path, progress: Progress, cancelled: threading.Event) -> Outcome:
        _stop(cancelled)
        clip = self._read(wanted)
        progress(0.0, "loading the model")
        refiner = self._refiner(wanted.description.backbone.adapter, wanted.description.backbone.options)
        calibration = wanted.description.calibration(refiner.adapter.requirements.default_cutoff)
        settings = wanted.description.settings()
        if wanted.prompt and refiner.adapter.takes_prompt:
            settings["prompt"] = wanted.prompt
        arms = {"SDEdit": NoiseCalibration(iterations=0), "calibrated": calibration}
        runs = {name: CalibratedRefiner(refiner.adapter, one) for name, one in arms.items()}
        plans = [run.refinement(RefineSettings(seed=wanted.seed, **settings)) for run in runs.values()]
        total = sum(plan.steps_for(len(clip.frames)) for plan in plans)
        done = 0
        results = {}
        for name, run in runs.items():

            def step(stage: str, name: str = name) -> None:
                nonlocal done
                _stop(cancelled)
                done += 1
                progress(min(0.9, 0.9 * done / total), f"{name}: {stage}")

            results[name] = run(clip, seed=wanted.seed, on_step=step, **settings)
        _stop(cancelled)
        progress(0.9, "comparing")
        reference = resized(clip.frames, RefineSettings(**settings))
        shown = VideoClip(reference, clip.fps)
        paths = {"input": folder / "input.mp4", "SDEdit": folder / "sdedit.mp4", "calibrated": folder / "refined.mp4"}
        write_clip(shown, paths["input"])
        for name, result in results.items():
            write_clip(result.clip, paths[name])
        receipt = folder / "receipt.json"
        found = results["calibrated"].receipt
        write_text(receipt, json.dumps(found, indent=2, allow_nan=False) + "\n").commit()
        report = _compared(paths, cancelled)
        progress(1.0, "done")
        return Outcome(
            paths["calibrated"],
            paths["SDEdit"],
            paths["input"],
            receipt,
            report,
            results["calibrated"].trace.content_loss,
            tuple(found["degradations"]),
        )

    def _read(self, wanted: Wanted) -> VideoClip:
        limits = self.limits
        if wanted.source is not None:
            size = wanted.source.stat().st_size / 1e6
            if size > limits.megabytes:
                raise ValueError(
                    f"the file has {size:.0f} MB; this page takes up to {limits.megabytes} MB. Cut it shorter, or use "
                    "nc-refiner refine, which takes files of any length"
                )
        frames = min(wanted.frames, limits.frames)
        path = demo_clip()[0] if wanted.source is None else wanted.source
        try:
            own = probe(path).height
            # The clip's own height is kept where it is asked for and within what this machine is given.
            height = wanted.height if wanted.height is not None else own
            height = min(height, limits.height)
            return read_clip(path, max_frames=frames, height=None if height == own else height)
        except ValueError as error:
            # The file lies in a folder of the server's; its name is all that the person knows.
            raise ValueError(str(error).replace(str(path), path.name)) from None

    def _refiner(self, name: str, options: Mapping[str, Any]) -> CalibratedRefiner:
        key = json.dumps([name, dict(options)], sort_keys=True, default=str)
        if key not in self._refiners:
            # One model at a time: the device it shares is not ours alone.
            self._refiners.clear()
            self._refiners[key] = self._create(name, dict(options))
        return self._refiners[key]


def _stop(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled


def _compared(paths: dict[str, Path], cancelled: threading.Event) -> str:
    """The page of `nc-refiner evaluate` for the input and the two outputs."""
    with Report() as report:
        for name in ("SDEdit", "calibrated"):
            _stop(cancelled)
            report.start(paths["input"])
            report.add(measure(paths["input"], paths[name], DEFAULT, watcher=report.watch))
        return report.html()
