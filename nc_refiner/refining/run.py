"""A refinement as it runs: encode, noise, calibrate, denoise, decode, window by window, and the record it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter, Timesteps
from ..calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate, is_identity
from ..holding import Hold
from .fit import Fit
from .latent_windows import LatentWindows
from .plan import RefinePlan
from .receipt import Receipt, peak_memory_bytes, planned
from .settings import RefineSettings
from .together import refine_together
from .windows import frame_noise, seams

__all__ = ["RefineSettings", "Refinement", "finite"]


class Refinement:
    """One run of an adapter over a stream of frames; use it once, then read `receipt()`.

    Args:
        adapter: the host.
        calibration: how to calibrate; `iterations = 0` is plain SDEdit.
        settings: what to do; its range errors are the caller's to show.
        on_step: called with a stage's name after each network-sized piece of work.
        piece_of: where the frames are a piece of a clip: the number of its first, and of how many (None: not known);
            noise and masks are those of that place.
    """

    def __init__(
        self,
        adapter: RefinerAdapter,
        calibration: NoiseCalibration,
        settings: RefineSettings,
        on_step: Callable[[str], None] | None = None,
        piece_of: tuple[int, int | None] | None = None,
    ):
        self.adapter, self.piece_of = adapter, piece_of
        self.on_step = on_step or (lambda stage: None)
        self._asked(calibration, settings)
        self.notes = list(self.plan.notes)
        self.seconds: dict[str, float] = {}
        self.windows: list[dict[str, Any]] = []
        self.evaluations = {"calibration": 0, "denoising": 0}
        self.kept: dict[str, Any] | None = None
        self.losses: list[tuple[float, ...]] = []
        self.stage = ""

    def _asked(self, calibration: NoiseCalibration, settings: RefineSettings) -> None:
        self.plan = RefinePlan(self.adapter, calibration, settings)
        self.calibration, self.settings = calibration, settings
        self.timesteps: Timesteps = self.plan.timesteps
        self._condition = self.plan.condition

    def piece(
        self,
        adapter: RefinerAdapter,
        calibration: NoiseCalibration,
        settings: RefineSettings,
        piece_of: tuple[int, int | None],
    ) -> Refinement:
        """A run over a piece of this run's clip, to be counted by `adopt`; `adapter` is this run's or one around it."""
        return Refinement(adapter, calibration, settings, self.on_step, piece_of)

    def settle(self, settings: RefineSettings, cutoff: float) -> None:
        """Run at what `keep` chose from here on; a run that does not calibrate has no use for the cutoff."""
        cutoff = self.calibration.cutoff if is_identity(self.calibration) else cutoff
        settings = replace(settings, size=self.settings.size, scale=self.settings.scale)
        self._asked(replace(self.calibration, cutoff=cutoff), settings)

    def adopt(self, run: Refinement, **said: Any) -> None:
        """Count what `run` did as this run's own; `said` goes into the record of each of its windows."""
        self.windows += [{**window, **said} for window in run.windows]
        self.losses += run.losses
        for stage, seconds in run.seconds.items():
            self.spent(stage, seconds)
        for stage, count in run.evaluations.items():
            self.evaluations[stage] += count
        for note in run.notes:
            self.note(note)

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

    def note(self, text: str) -> None:
        """Say `text` in the receipt, once."""
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self.stage = stage
        start = time.perf_counter()
        yield
        self.spent(stage, time.perf_counter() - start)

    def spent(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def decoded(self, latents: Tensor, how: Fit) -> Tensor:
        with torch.no_grad(), self._timed("decode"):
            return finite(how.undo(self.adapter.decode(latents)), self.adapter.name)

    def latents(
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
        self.losses.append(calibrated.trace.content_loss)
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
        longest = max(map(len, self.losses), default=0)
        columns = ([loss[i] for loss in self.losses if len(loss) > i] for i in range(longest))
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
