"""One refinement run: settings, the stages in their order, and the record they leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from .adapters.base import RefinerAdapter, Timesteps
from .calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate
from .fit import Fit, fit
from .latent_windows import LatentWindows
from .receipt import peak_memory_bytes, versions
from .windows import frame_noise, seams, sliding

__all__ = ["RefineSettings", "Refinement"]


@dataclass(frozen=True)
class RefineSettings:
    """What one run is asked to do.

    Attributes:
        prompt, negative_prompt: text, where the host takes it.
        strength: share of the schedule that is run, in (0, 1]; None is the adapter's default.
        start_timestep: the initial timestep instead of `strength`; not both.
        num_inference_steps: steps of the whole schedule, ≥ 1; None is the adapter's default.
        guidance_scale: ≥ 0; None is the host's own.
        seed: 0 ≤ seed < 2⁶³; decides noise and every other draw.
        window, overlap: frames per window (None: the adapter's most, or 16 for clips longer than that) and how many
            frames neighbours share.
        max_latents_gib: clips longer than a window are calibrated as a whole and blended in latent space while one copy
            of their latents is at most so large, in GiB ≥ 0 (at the peak about seven are held); longer ones, and every
            one at 0, stream through and are faded in pixels.

    Raises:
        ValueError: out of range, or both `strength` and `start_timestep`.
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    start_timestep: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    window: int | None = None
    overlap: int = 4
    max_latents_gib: float = 0.5

    def __post_init__(self) -> None:
        if self.strength is not None and self.start_timestep is not None:
            raise ValueError("strength and start_timestep say the same thing; give only one of them")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}; it must lie in (0, 1], where 1 keeps nothing of the input")
        if self.start_timestep is not None and not self.start_timestep >= 0:
            raise ValueError(f"start_timestep is {self.start_timestep}; it must be at least 0")
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {self.num_inference_steps}; it must be at least 1")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"guidance_scale is {scale}; it must be a number of at least 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must lie in 0…2^63−1")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; it must be at least 1 frame")
        if self.overlap < 0:
            raise ValueError(f"overlap is {self.overlap}; it must be at least 0 frames")
        if not self.max_latents_gib >= 0:
            raise ValueError(f"max_latents_gib is {self.max_latents_gib}; it must be at least 0 (0: always stream)")


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
        self.adapter, self.settings = adapter, settings
        self.calibration = calibration.resolved(adapter.requirements.default_cutoff)
        self.on_step = on_step or (lambda stage: None)
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self.windows: list[dict[str, Any]] = []
        self._losses: list[tuple[float, ...]] = []
        self._stage = ""
        self.evaluations = {"calibration": 0, "denoising": 0}
        self.timesteps = self._timesteps()
        self._check_capabilities()
        condition_prompts = (settings.prompt, settings.negative_prompt) if adapter.requirements.prompt else (None, None)
        self._condition = adapter.condition(*condition_prompts)

    def _timesteps(self) -> Timesteps:
        needs, settings = self.adapter.requirements, self.settings
        steps = settings.num_inference_steps or needs.default_steps
        strength = settings.strength
        if settings.start_timestep is not None:
            strength = self.adapter.strength_at(settings.start_timestep)
        return self.adapter.timesteps(steps, needs.default_strength if strength is None else strength)

    def _check_capabilities(self) -> None:
        needs, settings, name = self.adapter.requirements, self.settings, self.adapter.name
        if settings.prompt and not needs.prompt:
            self._note(f"prompt ignored: {name} is unconditional")
        if settings.negative_prompt and not needs.negative_prompt:
            self._note(f"negative prompt ignored: {name} does not take one")
        scales = (settings.guidance_scale, self.calibration.guidance_scale)
        if not needs.guidance and any(scale is not None for scale in scales):
            self._note(f"guidance scale ignored: {name} has no guidance")
        window, most = settings.window, needs.max_frames
        if window is not None and most is not None and window > most:
            raise ValueError(f"window is {window} frames; {name} takes at most {most}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def window_for(self, frames: int | None) -> int:
        """Frames per window for a clip of `frames` frames (None: unknown)."""
        most = self.adapter.requirements.max_frames
        if self.settings.window is not None:
            return self.settings.window
        if most is None:
            return frames or 16
        return frames if frames is not None and frames <= most else min(16, most)

    def steps_for(self, frames: int) -> int:
        """How many times `on_step` will be called for a clip of `frames` frames (fewer with early stopping)."""
        window = self.window_for(frames)
        stride = max(1, window - min(self.settings.overlap, window - 1))
        count = 1 if frames <= window else 1 + math.ceil((frames - window) / stride)
        return count * (len(self.timesteps) + self.calibration.iterations)

    def run(self, frames: Iterable[Tensor], count: int | None = None) -> Iterator[Tensor]:
        """Refine single frames `(3, H, W)` in [0, 1]; yields blocks `(n, 3, H, W)` in order.

        `count` is the number of frames where it is known; it decides between one pass and windows.
        """
        window = self.window_for(count)
        overlap = min(self.settings.overlap, window - 1)
        if count is not None and count <= window:
            yield from sliding(frames, window, overlap, self._window)
            return
        stream = iter(frames)
        head = list(islice(stream, window))
        stream = chain(head, stream)
        shared = f"refined in windows of {window} frames that share {overlap}"
        obstacle = self._obstacle(head, window, count)
        del head
        if obstacle is None:
            how = ", each denoised to its end" if self.adapter.owns_trajectory else ""
            self._note(f"{shared}, calibrated as one clip and blended in latent space{how}")
            yield from self._whole(stream, window, overlap)
        else:
            self._note(f"{shared}, calibrated one by one and faded in pixels: {obstacle}")
            yield from sliding(stream, window, overlap, self._window)

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

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self._stage = stage
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def _generator(self, first: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.settings.seed + 1 + first) % 2**63)

    def _window(self, frames: Tensor, first: int) -> Tensor:
        generator = self._generator(first)
        reference, how = self._encoded(frames, generator)
        calibrated = self._calibrated(self.adapter, reference, first)
        del reference
        latents = self._denoised(self.adapter, calibrated, generator)
        loss = list(calibrated.trace.content_loss)
        self.windows.append({"first": first, "frames": len(frames), "content_loss": loss})
        return self._decoded(latents, how)

    def _whole(self, stream: Iterable[Tensor], window: int, overlap: int) -> Iterator[Tensor]:
        """Windows of latents under one calibration; frames are encoded and decoded in blocks as they come and go."""
        generator = self._generator(0)
        fits: list[Fit] = []

        def encode(block: Tensor, first: int) -> Tensor:
            latents, how = self._encoded(block, generator)
            if latents.shape[2] != len(block):
                raise RuntimeError(
                    f"{self.adapter.name} made {latents.shape[2]} latent frames of {len(block)} frames; an adapter "
                    "with requirements.latent_windows must make one of each"
                )
            fits.append(how)
            return latents[0].transpose(0, 1)

        reference = torch.cat(list(sliding(stream, window, 0, encode))).transpose(0, 1)[None]
        count = reference.shape[2]
        pieces = LatentWindows(self.adapter, count, window, overlap, lambda: self.on_step(self._stage))
        calibrated = self._calibrated(pieces, reference, 0)
        del reference
        latents = self._denoised(pieces, calibrated, generator)
        del calibrated
        self.windows += [{"first": start, "frames": window} for start in pieces.starts]

        def decode(block: Tensor, first: int) -> Tensor:
            return self._decoded(block.transpose(0, 1)[None].contiguous(), fits[0])

        yield from sliding(latents[0].transpose(0, 1), window, 0, decode)

    def _encoded(self, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Fit]:
        fitted, how = fit(frames, self.adapter.requirements)
        for note in how.notes():
            self._note(note)
        with torch.no_grad(), self._timed("encode"):
            return self.adapter.encode(fitted, generator), how

    def _decoded(self, latents: Tensor, how: Fit) -> Tensor:
        with torch.no_grad(), self._timed("decode"):
            frames = how.undo(self.adapter.decode(latents))
        if not bool(torch.isfinite(frames).all()):
            raise RuntimeError(f"{self.adapter.name} produced NaN or infinite pixels; try float32 or a lower strength")
        return frames

    def _calibrated(self, model: RefinerAdapter | LatentWindows, reference: Tensor, first: int) -> Calibrated:
        """The latents of the frames from number `first` on, noised and calibrated."""
        own = self.calibration.guidance_scale
        scale = self.settings.guidance_scale if own is None else own
        level = self.adapter.noise_level(self.timesteps.first)

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
                calibrated = calibrate(x_t, reference, level, predict, self.calibration)
        self._losses.append(calibrated.trace.content_loss)
        return calibrated

    def _denoised(
        self, model: RefinerAdapter | LatentWindows, calibrated: Calibrated, generator: torch.Generator
    ) -> Tensor:
        told = {} if isinstance(model, LatentWindows) else {"on_step": lambda: self.on_step("denoise")}
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

    def receipt(self) -> dict[str, Any]:
        """Everything this run can say about itself, as JSON-ready data."""
        return {
            "versions": versions(),
            "adapter": {"name": self.adapter.name, "device": str(self.adapter.device), **self.adapter.describe()},
            "calibration": asdict(self.calibration),
            "settings": {**asdict(self.settings), "strength": self.timesteps.strength, "start_timestep": None},
            "num_inference_steps": self.timesteps.num_inference_steps,
            "timesteps": self.timesteps.values.tolist(),
            "content_loss": list(self.trace().content_loss),
            "windows": [dict(window) for window in self.windows],
            "seams": seams([(window["first"], window["frames"]) for window in self.windows]),
            "evaluations": dict(self.evaluations),
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
            "peak_memory_bytes": peak_memory_bytes(self.adapter.device),
            "degradations": list(self.notes),
        }
