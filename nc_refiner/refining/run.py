"""A refinement as it runs: encode, noise, calibrate, denoise, decode, window by window, and the record it leaves."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter, Timesteps
from ..calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate, is_identity
from ..holding import Hold
from .fit import Fit, fit
from .keeping.choosing import Chosen, choose
from .latent_windows import LatentWindows
from .plan import RefinePlan
from .receipt import Receipt, peak_memory_bytes, planned
from .resize import resized
from .settings import RefineSettings
from .weights import MaskWeights
from .windows import frame_noise, seams, sliding, window_generator

__all__ = ["RefineSettings", "Refinement", "finite", "refine_together"]


class Refinement:
    """One run of an adapter over a stream of frames; use it once, then read `receipt()`.

    Args:
        adapter: the host.
        calibration: how to calibrate; `iterations = 0` is plain SDEdit.
        settings: what to do; its range errors are the caller's to show.
        on_step: called with a stage's name after each network-sized piece of work.
    """

    def __init__(
        self,
        adapter: RefinerAdapter,
        calibration: NoiseCalibration,
        settings: RefineSettings,
        on_step: Callable[[str], None] | None = None,
    ):
        self.adapter = adapter
        self.on_step = on_step or (lambda stage: None)
        self._asked(calibration, settings)
        self.notes = list(self.plan.notes)
        self.seconds: dict[str, float] = {}
        self.windows: list[dict[str, Any]] = []
        self.evaluations = {"calibration": 0, "denoising": 0}
        self.kept: dict[str, Any] | None = None
        self._losses: list[tuple[float, ...]] = []
        self._stage = ""

    def _asked(self, calibration: NoiseCalibration, settings: RefineSettings) -> None:
        self.plan = RefinePlan(self.adapter, calibration, settings)
        self.calibration, self.settings = calibration, settings
        self.timesteps: Timesteps = self.plan.timesteps
        self._condition = self.plan.condition

    def settle(self, settings: RefineSettings, cutoff: float, record: dict[str, Any]) -> None:
        """Run at what `keep` chose from here on; `record` of the choice goes into the receipt."""
        cutoff = self.calibration.cutoff if is_identity(self.calibration) else cutoff
        settings = replace(settings, size=self.settings.size, scale=self.settings.scale)
        self._asked(replace(self.calibration, cutoff=cutoff), settings)
        self.kept = record

    def adopt(self, run: Refinement) -> None:
        """Take over what `run` did, which was this very run."""
        self.windows, self._losses, self.seconds = run.windows, run._losses, run.seconds
        self.evaluations = run.evaluations
        for note in run.notes:
            self._note(note)

    def window_for(self, frames: int | None) -> int:
        """As `RefinePlan.window_for`."""
        return self.plan.window_for(frames)

    def steps_for(self, frames: int) -> int:
        """As `RefinePlan.steps_for`."""
        return self.plan.steps_for(frames)

    def run(self, frames: Iterable[Tensor], count: int | None = None) -> Iterator[Tensor]:
        """Refine single frames `(3, H, W)` in [0, 1]; yields blocks `(n, 3, H, W)` in order.

        `count` is the number of frames where it is known; it decides between one pass and windows.
        """
        for (block,) in refine_together([self], frames, count):
            yield block

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self._stage = stage
        start = time.perf_counter()
        yield
        self._spent(stage, time.perf_counter() - start)

    def _spent(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def _decoded(self, latents: Tensor, how: Fit) -> Tensor:
        with torch.no_grad(), self._timed("decode"):
            return finite(how.undo(self.adapter.decode(latents)), self.adapter.name)

    def _latents(
        self,
        model: RefinerAdapter | LatentWindows,
        held: list[Tensor],
        generator: torch.Generator,
        first: int,
        weights: Tensor | None,
    ) -> Tensor:
        """The refined latents of the frames from number `first` on; `held` gives up the reference they start from."""
        calibrated, hold = self._calibrated(model, held.pop(), first, weights)
        return self._denoised(model, calibrated, generator, hold)

    def _calibrated(
        self, model: RefinerAdapter | LatentWindows, reference: Tensor, first: int, weights: Tensor | None
    ) -> tuple[Calibrated, Hold | None]:
        own = self.calibration.guidance_scale
        scale = self.settings.guidance_scale if own is None else own
        level = self.adapter.noise_level(self.timesteps.first)
        weights = None if weights is None else weights.to(reference.device)
        hold = Hold.of(reference, level, self.calibration, weights)

        def predict(latents: Tensor) -> Tensor:
            x0 = model.predict_x0(latents, self.timesteps.first, self._condition, scale)
            if not isinstance(model, LatentWindows):  # which tells of each window itself
                self.on_step("calibrate")
            return x0

        with torch.no_grad():
            with self._timed("encode"):
                noise = frame_noise(tuple(reference.shape), self.settings.seed, first, reference.device)
                x_t = level.add_noise(reference, noise.to(reference.dtype))
                del noise
            with self._timed("calibrate"), self._counted("calibration"):
                calibrated = calibrate(x_t, reference, level, predict, self.plan.calibration, weights)
        self._losses.append(calibrated.trace.content_loss)
        return calibrated, hold

    def _denoised(
        self,
        model: RefinerAdapter | LatentWindows,
        calibrated: Calibrated,
        generator: torch.Generator,
        hold: Hold | None,
    ) -> Tensor:
        told: dict[str, Any] = {} if hold is None else {"hold": hold}
        if not isinstance(model, LatentWindows):
            told["on_step"] = lambda: self.on_step("denoise")
        with torch.no_grad(), self._timed("denoise"), self._counted("denoising"):
            return model.denoise(
                calibrated.x_t,
                self.timesteps,
                self._condition,
                guidance_scale=self.settings.guidance_scale,
                generator=generator,
                first_x0=calibrated.x0,
                **told,
            )

    @contextmanager
    def _counted(self, stage: str) -> Iterator[None]:
        before = self.adapter.evaluations
        yield
        self.evaluations[stage] += self.adapter.evaluations - before

    def trace(self) -> CalibrationTrace:
        """Content loss per iteration; averaged over the windows where they are calibrated one by one."""
        longest = max(map(len, self._losses), default=0)
        columns = ([loss[i] for loss in self._losses if len(loss) > i] for i in range(longest))
        return CalibrationTrace(tuple(sum(column) / len(column) for column in columns))

    def receipt(self) -> Receipt:
        """Everything this run can say about itself, as JSON-ready data."""
        receipt: Receipt = {
            **planned(self.plan),
            "content_loss": list(self.trace().content_loss),
            "windows": [dict(window) for window in self.windows],
            "seams": seams([(window["first"], window["frames"]) for window in self.windows]),
            "evaluations": dict(self.evaluations),
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "peak_memory_bytes": peak_memory_bytes(self.adapter.device),
            "degradations": list(self.notes),
        }
        if self.kept is not None:
            receipt["keep"] = self.kept
        return receipt


def finite(frames: Tensor, name: str) -> Tensor:
    """`frames` as they are; RuntimeError where the adapter `name` made values that are no numbers."""
    if not bool(torch.isfinite(frames).all()):
        raise RuntimeError(f"{name} produced NaN or infinite pixels; try float32 or a lower strength")
    return frames


def refine_together(
    runs: Sequence[Refinement], frames: Iterable[Tensor], count: int | None = None
) -> Iterator[tuple[Tensor, ...]]:
    """Several runs over one stream that is encoded once: an output of each, block by block.

    The runs follow each other on every window, so that the latents of one run are held at a time.

    Args:
        runs: differing in nothing but how they calibrate: one adapter, equal settings.
        frames, count: as `Refinement.run`.

    Yields:
        One block `(n, 3, H, W)` per run, in the order of `runs`, all of the same frames.

    Raises:
        ValueError: runs of different adapters or settings.
    """
    lead = runs[0]
    if any(run.adapter is not lead.adapter or run.settings != lead.settings for run in runs):
        raise ValueError("runs over one encoding need the same adapter and the same settings; run them one by one")
    together = _Together(runs)
    for block in together.run(frames, count):
        yield tuple(block.tensor_split(len(runs), dim=1))


class _Together:
    """The machinery of `refine_together`: outputs of all runs travel as one tensor, as further channels."""

    def __init__(self, runs: Sequence[Refinement]):
        self.runs, self.lead = runs, runs[0]
        self.adapter, self.plan, self.settings = self.lead.adapter, self.lead.plan, self.lead.settings

    def run(self, frames: Iterable[Tensor], count: int | None) -> Iterator[Tensor]:
        asked = self.settings
        frames = (resized(frame, asked) for frame in frames)
        window = self.plan.window_for(count)
        overlap = self.plan.overlap_for(window)
        if self.settings.keep is not None:
            head = list(islice(frames, window))
            yield from self._keeping(head, chain(head, frames), window, overlap, count)
        else:
            yield from self._run(frames, window, overlap, count)

    def _keeping(
        self, head: list[Tensor], stream: Iterable[Tensor], window: int, overlap: int, count: int | None
    ) -> Iterator[Tensor]:
        """Choose on the first window, then run everything at what was chosen; one window is not run again."""
        chosen = self._chosen(torch.stack(head))
        self.settings, self.plan = self.lead.settings, self.lead.plan
        if count is None or count > len(head):
            self._note(f"keep was checked on the first {len(head)} frames; the rest runs at the settings found there")
            yield from self._run(stream, window, overlap, count)
            return
        plain = [run for run in self.runs if is_identity(run.calibration)]
        blocks = torch.cat(list(_Together(plain)._run(stream, window, overlap, count))) if plain else None
        outputs = iter(() if blocks is None else blocks.tensor_split(len(plain), dim=1))
        for run in self.runs:
            if run not in plain:
                run.adopt(chosen.run)
        yield torch.cat([next(outputs) if run in plain else chosen.frames for run in self.runs], dim=1)

    def _chosen(self, frames: Tensor) -> Chosen[Refinement]:
        calibrated = [run.calibration for run in self.runs if not is_identity(run.calibration)]
        if not calibrated or any(one != calibrated[0] for one in calibrated):
            raise ValueError("keep needs calibration: iterations of at least 1 and a cutoff above 0")

        def make(calibration: NoiseCalibration, settings: RefineSettings) -> Refinement:
            return Refinement(self.adapter, calibration, settings, self.lead.on_step)

        chosen = choose(self.adapter, self.settings, calibrated[0], frames, make)
        for run in self.runs:
            run.settle(chosen.rung.settings, chosen.rung.calibration.cutoff, chosen.record)
            for note in chosen.notes:
                run._note(note)
        return chosen

    def _run(self, frames: Iterable[Tensor], window: int, overlap: int, count: int | None) -> Iterator[Tensor]:
        self._masks = MaskWeights([run.calibration for run in self.runs], self.adapter.requirements, count)
        for note in self._masks.notes:
            self._note(note)
        if count is not None and count <= window:
            yield from sliding(frames, window, overlap, self._window)
            return
        head = list(islice(frames, window))
        obstacle = self._obstacle(head, window, count)
        stream = chain(head, frames)
        del head
        shared = f"refined in windows of {window} frames that share {overlap}"
        if obstacle is None:
            how = ", each denoised to its end" if self.adapter.owns_trajectory else ""
            self._note(f"{shared}, calibrated as one clip and blended in latent space{how}")
            yield from self._whole(stream, window, overlap)
        else:
            self._note(f"{shared}, calibrated one by one and faded in pixels: {obstacle}")
            for run in self.runs:
                if run.calibration.cutoff_time is not None and not is_identity(run.calibration):
                    run._note("cutoff_time filters each window by itself")
            yield from sliding(stream, window, overlap, self._window)

    def _note(self, text: str) -> None:
        for run in self.runs:
            run._note(text)

    def _obstacle(self, head: list[Tensor], window: int, count: int | None) -> str | None:
        """Why a clip that starts with `head` cannot be held as latents; None if it can."""
        needs, limit = self.adapter.requirements, self.settings.max_latents_gib
        if count is None:
            return "the number of frames is not known"
        if not needs.latent_windows:
            return f"{self.adapter.name} does not take windows of latents"
        if len(head) < window:
            return f"only {len(head)} of {count} frames came"
        if window < needs.min_frames:
            return f"{self.adapter.name} needs {needs.min_frames} frames at once"
        some, _ = self._encoded(torch.stack(head[: needs.min_frames]), torch.Generator().manual_seed(0))
        size = some[:, :, :1].numel() * some.element_size() * count / 2**30
        return None if size <= limit else f"its latents would take {size:.3g} GiB, above max_latents_gib = {limit:g}"

    def _encoded(self, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Fit]:
        fitted, how = fit(frames, self.adapter.requirements)
        for note in how.notes():
            self._note(note)
        start = time.perf_counter()
        with torch.no_grad():
            latents = self.adapter.encode(fitted, generator)
        for run in self.runs:
            run._spent("encode", time.perf_counter() - start)
        return latents, how

    def _window(self, frames: Tensor, first: int) -> Tensor:
        generator = window_generator(self.settings.seed, first)
        reference, how = self._encoded(frames, generator)
        weights = self._masks.of(frames, first, how, reference)
        state, held, done = generator.get_state(), [reference], []
        del reference
        for left, run in zip(reversed(range(len(self.runs))), self.runs, strict=True):
            generator.set_state(state)
            given = held if not left else held[:]
            latents = run._latents(self.adapter, given, generator, first, weights.get(run.calibration.mask))
            loss = list(run._losses[-1])
            run.windows.append({"first": first, "frames": len(frames), "content_loss": loss})
            done.append(run._decoded(latents, how))
            del latents
        return torch.cat(done, dim=1) if len(done) > 1 else done[0]

    def _whole(self, stream: Iterable[Tensor], window: int, overlap: int) -> Iterator[Tensor]:
        """Windows of latents under one calibration; frames are encoded and decoded in blocks as they come and go."""
        generator = window_generator(self.settings.seed, 0)
        fits: list[Fit] = []

        def encode(block: Tensor, first: int) -> Tensor:
            latents, how = self._encoded(block, generator)
            if latents.shape[2] != len(block):
                raise RuntimeError(
                    f"{self.adapter.name} made {latents.shape[2]} latent frames of {len(block)} frames; an adapter "
                    "with requirements.latent_windows must make one of each"
                )
            fits.append(how)
            self._masks.keep(block, first, how, latents)
            return latents[0].transpose(0, 1)

        held = [torch.cat(list(sliding(stream, window, 0, encode))).transpose(0, 1)[None]]
        count, state, weights = held[0].shape[2], generator.get_state(), self._masks.whole()
        with tempfile.TemporaryDirectory(prefix="nc_refiner-") as folder:
            found: list[Tensor] = []
            for left, run in zip(reversed(range(len(self.runs))), self.runs, strict=True):
                generator.set_state(state)
                pieces = LatentWindows(self.adapter, count, window, overlap, lambda run=run: run.on_step(run._stage))  # type: ignore[misc]
                given = held if not left else held[:]
                latents = run._latents(pieces, given, generator, 0, weights.get(run.calibration.mask))
                run.windows += [{"first": start, "frames": window} for start in pieces.starts]
                # The next run needs the room: what is finished waits on disk for its turn to be decoded.
                found.append(_on_disk(latents, Path(folder) / str(left)) if left else latents)
                del latents

            def decode(block: Tensor, first: int) -> Tensor:
                channels = block.tensor_split(len(self.runs), dim=1)
                blocks = (part.transpose(0, 1)[None].contiguous() for part in channels)
                return torch.cat(
                    [run._decoded(part, fits[0]) for run, part in zip(self.runs, blocks, strict=True)], dim=1
                )

            yield from sliding(_frame_by_frame(found), window, 0, decode)


def _on_disk(latents: Tensor, path: Path) -> Tensor:
    """`latents` as a tensor on the CPU whose memory is the file `path`."""
    flat = torch.from_file(str(path), shared=True, size=latents.numel(), dtype=latents.dtype)
    return flat.copy_(latents.flatten()).view(latents.shape)


def _frame_by_frame(clips: Sequence[Tensor]) -> Iterator[Tensor]:
    """Latent frames `(R·C, H, W)` of R clips `(1, C, F, H, W)`, one after another."""
    device = clips[-1].device
    for index in range(clips[0].shape[2]):
        yield torch.cat([clip[0, :, index].to(device) for clip in clips])
