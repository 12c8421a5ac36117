"""The one engine behind sweeps and `ab run`: many arms on many clips, each output once, resumable at every moment."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from filelock import FileLock, Timeout

from ... import video
from ...adapters.base import RefinerAdapter
from ...adapters.registry import create
from ...baselines import BASELINES, BaselineRefiner
from ...calibration import NoiseCalibration
from ...clip import VideoClip
from ...config.refiner import calibration_fields
from ...evaluation.catalogue import FIDELITY, METRICS, TO_ORIGINAL
from ...evaluation.measure import measure_frames
from ...evaluation.meters import Models
from ...files import write_text
from ...mask import as_mask
from ...refiner import CalibratedRefiner, RefinedClip
from ...refining.plan import settled
from ...refining.receipt import versions
from ...refining.resize import resized
from ...refining.run import Refinement
from ...refining.settings import RefineSettings
from .arms import Arm, arms_of
from .clips import InputClip, Source, each_clip, sources
from .config import ExperimentConfig, PlanBase
from .restoring import Restorers
from .results import CELLS, INPUT_CLIP, KEPT, MANIFEST, CellStore, cell_key, clip_folder, output_key
from .shared_encode import SharedEncode
from .shared_latents import Bench, reused_by

__all__ = ["OfflineRun", "Work", "cells_in", "finish", "keeper", "run_plan", "strengths_of"]

LOCK = ".lock"
Row = dict[str, Any]
Keep = Callable[[InputClip, Arm, str, torch.Tensor], str | None]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Work(Generic[Key]):
    """Outputs of one clip that are made together, because their arms share what they have in common.

    Attributes:
        clip: its name.
        keys: arm → key of its cell.
        rows: makes those of the arms that are asked for, each as soon as it is known.
    """

    clip: str
    keys: Mapping[Key, str]
    rows: Callable[[list[Key]], Iterable[tuple[Key, Row]]]


def finish(
    work: Iterable[Work[Key]], cells: CellStore, on_cell: Callable[[str], None] = lambda clip: None
) -> Iterator[dict[Key, Row]]:
    """Per piece of work its rows, in the order of its keys: those that `cells` holds, and the others made now.

    Args:
        work: what there is to do.
        cells: finished cells. The same cells give the same rows, in whatever order and by however many runs they were
            made.
        on_cell: called with the clip's name after each cell.
    """
    for one in work:
        found = {arm: row for arm, key in one.keys.items() if (row := cells.get(key)) is not None}
        for _ in found:
            on_cell(one.clip)
        missing = [arm for arm in one.keys if arm not in found]
        for arm, row in one.rows(missing) if missing else ():
            cells.put(one.keys[arm], row)
            found[arm] = row
            on_cell(one.clip)
        yield {arm: found[arm] for arm in one.keys}


def strengths_of(plan: PlanBase, adapter: RefinerAdapter) -> tuple[float, ...]:
    """The plan's strengths, or the adapter's default."""
    return plan.strengths or (adapter.requirements.default_strength,)


def cells_in(plan: PlanBase, adapter: RefinerAdapter, clips: Sequence[InputClip]) -> int:
    """How many cells the table of `run_plan` will have."""
    return len(clips) * len(arms_of(plan, strengths_of(plan, adapter)))


def run_plan(
    adapter: RefinerAdapter,
    clips: Sequence[InputClip],
    plan: PlanBase,
    cells: Path,
    on_cell: Callable[[str], None] = lambda clip: None,
    keep: Keep | None = None,
    restorers: Restorers | None = None,
) -> list[Row]:
    """The table: one row per clip and arm, clips in their order, arms in the plan's.

    Args:
        adapter: the host.
        clips: each at most one window long; names differ.
        plan: what to run.
        cells: folder of finished cells; made where it is missing. The same cells give the same table, in whatever
            order and by however many runs they were computed.
        on_cell: called with the clip's name after each cell.
        keep: given clip, arm, key of the cell and frames, writes an output that is to be kept and names its file,
            relative to the folder above `cells`; None for the others.
        restorers: the plan's, where they are built already; default: they are built here.

    Returns:
        Rows with `refiner`, `clip`, `method`, `label`, `iterations`, `cutoff`, `strength`, `seed`,
        `num_inference_steps`, `steps`, `evaluations` (of that arm run alone), `output_loss` (content loss of the
        refined latents at ν = 1), the metrics, and where it applies `content_loss` (of the estimate after 0…N
        iterations), `psnr_to_original`, `matched_strength`, `matched_loss`, `target_loss`, `video` (the kept file).
        What does not apply is absent; restorers have no `strength`, `steps`, `evaluations` and `output_loss`.

    Raises:
        ValueError: a clip that is too long, or a baseline over a host that runs its own solver.
        ImportError, OSError: a restorer's package or weights are not here.
    """
    steps = plan.described.get("num_inference_steps") or adapter.requirements.default_steps
    common = {
        "versions": versions(),
        "host": {"name": adapter.name, **adapter.describe()},
        "steps": steps,
        "guidance_scale": plan.described.get("guidance_scale"),
        "prompt": plan.prompt,
        "metrics": list(plan.metrics),
    }
    if plan.alone:
        common["described"] = _described(plan)
    reuses = reused_by(plan, adapter)
    arms, shared = arms_of(plan, strengths_of(plan, adapter)), SharedEncode(adapter)
    restoring = restorers if restorers is not None else Restorers.of(plan.restorers)

    def rows(clip: InputClip, missing: list[Arm]) -> Iterator[tuple[Arm, Row]]:
        shared.forget()

        def kept(arm: Arm, frames: torch.Tensor) -> Row:
            # Under this name a cell whose file is gone counts as missing.
            path = keep(clip, arm, keys(clip)[arm], frames) if keep is not None else None
            return {} if path is None else {"clip": path}

        refining = [arm for arm in missing if arm.method not in restoring]
        yield from restoring.rows(clip, plan, [arm for arm in missing if arm.method in restoring], kept)
        if plan.alone:
            yield from ((arm, _alone(shared, clip, plan, arm, kept)) for arm in refining)
        else:
            yield from Bench(adapter, clip, plan, kept).rows(refining)

    def keys(clip: InputClip) -> dict[Arm, str]:
        return {
            arm: restoring.key(clip, plan, arm)
            if arm.method in restoring
            else cell_key(clip=clip.digest, arm=arm.as_dict(), **common, **reused(arm))
            for arm in arms
        }

    def reused(arm: Arm) -> Row:
        # Absent without reuse: cells from before it was the default stay good, and are never taken for these.
        return {"reuses": True} if reuses and arm.method in ("nc", "matched_sdedit") else {}

    work = (Work(clip.name, keys(clip), partial(rows, clip)) for clip in clips)
    return [
        {
            **{"refiner": adapter.name, "clip": clip.name, "label": arm.label, **arm.as_dict()},
            **{"num_inference_steps": steps, **{"video" if key == "clip" else key: row[key] for key in row}},
        }
        for clip, found in zip(clips, finish(work, CellStore(cells), on_cell), strict=True)
        for arm, row in found.items()
    ]


def _described(plan: PlanBase) -> Row:
    """What is set but reuse, a mask by what identifies it: another mask under the same name gives other cells."""
    found = {name: value for name, value in plan.described.items() if name != "reuse_prediction"}
    return {**found, **({"mask": as_mask(found["mask"]).describe()} if "mask" in found else {})}


def _alone(
    adapter: SharedEncode, clip: InputClip, plan: PlanBase, arm: Arm, kept: Callable[[Arm, torch.Tensor], Row]
) -> Row:
    """One arm run by itself, for settings under which arms have no latents in common; only the encode is shared."""
    settings = {"prompt": plan.prompt, "strength": arm.strength, **plan.described}
    cutoff = 1.0 if arm.cutoff is None else arm.cutoff
    described = {**settings, "iterations": arm.iterations or 0, "cutoff": cutoff}
    calibration = NoiseCalibration(**calibration_fields(described))
    settings = {field.name: settings[field.name] for field in fields(RefineSettings) if field.name in settings}
    chosen = RefineSettings(**settings)
    given = VideoClip(clip.frames, clip.fps)
    refined: RefinedClip
    if arm.method in BASELINES:
        refined = BaselineRefiner(adapter, arm.method, cutoff, calibration)(given, seed=arm.seed or 0, **settings)
    else:
        refined = CalibratedRefiner(adapter, calibration)(given, seed=arm.seed, **settings)
    receipt = refined.receipt
    row: Row = {"steps": len(receipt["timesteps"]), "evaluations": sum(receipt["evaluations"].values())}
    if receipt.get("content_loss"):
        row["content_loss"] = list(receipt["content_loss"])
    if arm.method == "trace":
        return row
    if arm.method == "input":
        row = {"evaluations": 0}
    names = (*plan.metrics, *(("psnr_to_original",) if clip.original is not None else ()))
    original = None if clip.original is None else resized(clip.original, chosen)
    measured = measure_frames(resized(clip.frames, chosen), refined.clip.frames, names, original=original)
    return {**row, **measured, **kept(arm, refined.clip.frames)}


def keeper(folder: Path, which: str, first_seed: int) -> Keep:
    """A `keep` for `run_plan`: writes below `folder`/clips what `which` says: `all`, `first_seed` or `none`."""

    def keep(clip: InputClip, arm: Arm, key: str, frames: torch.Tensor) -> str | None:
        if which == "none" or (which == "first_seed" and arm.seed not in (None, first_seed)):
            return None
        facts = "_".join(f"{name}-{value}" for name, value in arm.as_dict().items() if value is not None)
        # The key tells apart what two refiners of one name made of it.
        path = Path(KEPT) / clip.name / f"{facts}_{key[:8]}.mp4"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with video.FrameWriter(folder / path, clip.fps) as writer:
            writer.write(frames)
        return path.as_posix()

    return keep


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
