"""`ModelScopeAdapter`: MS-Vid2Vid-XL as any other refiner: host parts and solver, our sizes and randomness."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ...holding import Hold
from ...noise_level import NoiseLevel
from ..base import RefinerAdapter, Requirements, Timesteps
from ..runtime import drawing_from
from .attention import working_attention
from .host import check_pipeline, plain_diffusion, runnable, unwrap
from .solving import CalibrateAt, check_calibrate_at, estimate_x0, level_at, run_solver

__all__ = ["DEFAULT_STEPS", "ModelScopeAdapter", "check_size"]

Solver = Literal["dpmpp_2m_sde", "heun"]
LATENT_SCALE = 0.18215
GUIDANCE_SCALE = 7.5
GUIDANCE_RESCALE = 0.2
NUM_TRAIN_TIMESTEPS = 1000
DEFAULT_STEPS: dict[str, int] = {"dpmpp_2m_sde": 30, "heun": 50}
MIN_HEIGHT, MIN_WIDTH = 80, 64


def _version() -> str | None:
    """Of the installed package; None where the host runs from a checkout."""
    try:
        return metadata.version("modelscope")
    except metadata.PackageNotFoundError:
        return None


def check_size(count: int, height: int, width: int) -> None:
    """Raise ValueError for a clip that the network cannot take as it is: frames, and pixels."""
    if count < 2 or height < MIN_HEIGHT or width < MIN_WIDTH or height % 64 != 16 or width % 64:
        raise ValueError(
            f"the clip is {count} frames of {height}×{width}; this model takes at least 2 frames of heights 80, 144, "
            "208, … (64·n + 16) and widths 64, 128, 192, …"
        )


class ModelScopeAdapter(RefinerAdapter):
    """A `pipeline('video-to-video', …)` of ModelScope, at any legal size and start, with explicit randomness.

    What the pipeline fixes is free here: size (`H % 64 == 16`, at least 80; `W % 64 == 0`), strength, steps, guidance
    and seed; frames go in and out as tensors. The rest is the host's: prompts, guidance rescale, solver, VAE.

    Args:
        pipe: the pipeline, wrapped or not, or an `nc-video-to-video` one: its own calibration plays no part. While it
            runs, attention without a kernel on its device is PyTorch's own; nothing of it stays changed.
        solver: `dpmpp_2m_sde` (the host's fast mode) or `heun`; None is what the model is configured for.
        calibrate_at: `x_t` asks for x̂₀ at the noisy latents themselves; `network_input` at `σ·x_t`, which is what the
            host's solver feeds its network first. `docs/modelscope_solvers.md` compares the two.

    Raises:
        ValueError: not such a pipeline, unknown options, or half precision on a CPU.
    """

    name = "modelscope"
    owns_trajectory = True

    def __init__(self, pipe: Any, solver: str | None = None, calibrate_at: str = "x_t"):
        pipe = unwrap(pipe)
        check_pipeline(pipe)
        self.pipe, self.model = pipe, pipe.model
        runnable(self.model)
        if solver is None:
            solver = "dpmpp_2m_sde" if self.model.cfg.solver_mode == "fast" else "heun"
        if solver not in DEFAULT_STEPS:
            raise ValueError(f"solver is {solver!r}; allowed: {', '.join(DEFAULT_STEPS)}")
        self.solver = cast(Solver, solver)
        self.calibrate_at: CalibrateAt = check_calibrate_at(calibrate_at)
        self.requirements = Requirements(
            min_frames=2,
            max_frames=int(self.model.cfg.max_frames),
            size_multiple=(64, 64),
            size_offset=(16, 0),
            min_size=(MIN_HEIGHT, MIN_WIDTH),
            default_strength=0.6,
            default_steps=DEFAULT_STEPS[solver],
        )
        self.evaluations = 0

    @property
    def _diffusion(self) -> Any:
        # Never a calibrating one, which would calibrate a second time.
        return plain_diffusion(self.model)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames `(F, 3, H, W)` in [0, 1] → `(1, 4, F, H/8, W/8)` float32: 0.18215 × a sample of the VAE's posterior,
        its mean where `generator` is None.

        Raises:
            ValueError: a size or a number of frames the model cannot take.
        """
        check_size(len(frames), *frames.shape[2:])
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.model.cfg.mean, self.model.cfg.std))
        latents = []
        with torch.no_grad():
            for frame in ((frames.float().cpu() - mean) / std).split(1):
                posterior = self.model.autoencoder.encode(frame.to(self.device))
                found = posterior.mean
                if generator is not None:
                    drawn = torch.randn(found.shape, generator=generator, device=generator.device)
                    found = found + posterior.std * drawn.to(self.device)
                latents.append(LATENT_SCALE * found)
        return torch.cat(latents).transpose(0, 1)[None]

    def decode(self, latents: Tensor) -> Tensor:
        """`(1, 4, F, H/8, W/8)` → frames `(F, 3, H, W)`, clamped to [0, 1], on the CPU."""
        scaled = (1.0 / LATENT_SCALE * latents)[0].transpose(0, 1)
        with torch.no_grad(), self._autocast():
            parts = [self.model.autoencoder.decode(part) for part in scaled.chunk(max(1, len(scaled) // 2))]
        frames = torch.cat(parts).float().cpu()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.model.cfg.mean, self.model.cfg.std))
        return (frames * std + mean).clamp(0, 1)

    def condition(
        self, prompt: str | None = None, negative_prompt: str | None = None, **host: Any
    ) -> list[dict[str, Tensor]]:
        """The text embeddings, with and without; the host adds its own words of praise to `prompt`, and its own
        negative prompt stands where none is given.
        """
        super().condition(**host)
        encoder = self.model.clip_encoder
        with torch.no_grad():
            positive = encoder((prompt or "") + self.model.positive_prompt).detach()
            negative = self.model.negative_y if negative_prompt is None else encoder(negative_prompt).detach()
        return [{"y": positive.to(self.device)}, {"y": negative.to(self.device)}]

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        """The host's rule: all of `num_inference_steps` are run, spaced evenly down from `1000 · strength − 1`.

        Raises:
            ValueError: out of range, or a strength whose start has no signal left (the solver cannot start there).
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}; it must lie in (0, 1]")
        start = round(strength * NUM_TRAIN_TIMESTEPS) - 1
        if not 1 <= start <= NUM_TRAIN_TIMESTEPS - 2:
            raise ValueError(f"strength is {strength}; this model takes 0.002 to 0.999")
        if not 1 <= num_inference_steps <= start:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}; strength {strength} leaves room for 1 to {start}"
            )
        # As the host spaces them: its SDE solver counts one step more and leaves the last but one out.
        count = num_inference_steps + (self.solver == "dpmpp_2m_sde")
        values = torch.arange(start, -1, -((start + 1) / count)).clamp(0, start)
        return Timesteps(values[:-1] if self.solver == "dpmpp_2m_sde" else values, num_inference_steps, strength)

    def strength_at(self, timestep: float) -> float:
        if not 1 <= timestep <= NUM_TRAIN_TIMESTEPS - 2:
            raise ValueError(f"start timestep is {timestep}; it must lie in 1…{NUM_TRAIN_TIMESTEPS - 2}")
        return (timestep + 1) / NUM_TRAIN_TIMESTEPS

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        return level_at(self._diffusion, round(float(timestep)))

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        with torch.no_grad(), self._autocast(), working_attention(self.model.generator):
            return estimate_x0(
                self._diffusion,
                x_t,
                round(float(timestep)),
                self.calibrate_at,
                self._network,
                condition,
                guide_scale=GUIDANCE_SCALE if guidance_scale is None else guidance_scale,
                guide_rescale=GUIDANCE_RESCALE,
            )

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Any,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
        hold: Hold | None = None,
    ) -> Tensor:
        """The host's solver from `x_t` to its end; it draws from `generator`, on any device (seed 0 where None)."""
        options = {
            "model_kwargs": condition,
            "guide_scale": GUIDANCE_SCALE if guidance_scale is None else guidance_scale,
            "guide_rescale": GUIDANCE_RESCALE,
            "solver": self.solver,
            "steps": timesteps.num_inference_steps,
            "t_max": int(timesteps.first),
            "t_min": 0,
            "discretization": "trailing",
            "seed": 0,  # unused by its solvers, and drawn from Python's generator where it is not given
        }
        calls = 0

        def count() -> None:
            nonlocal calls
            calls += 1
            # Heun asks twice for every step but the last.
            done = self.solver != "heun" or calls % 2 == 0 or calls == 2 * len(timesteps) - 1
            if done and on_step is not None:
                on_step()

        source = torch.Generator().manual_seed(0) if generator is None else generator
        attention = working_attention(self.model.generator)
        with torch.no_grad(), self._autocast(), attention, drawing_from(source):
            return run_solver(self._diffusion, x_t, self._network, options, first_x0, count, hold)

    def _network(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 1
        found: Tensor = self.model.generator(x, t=t, y=y)
        return found

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = next(self.model.generator.parameters()).dtype
        half = dtype if dtype in (torch.float16, torch.bfloat16) else torch.float16
        return torch.autocast(self.device.type, dtype=half, enabled=self.device.type != "cpu")

    def describe(self) -> dict[str, Any]:
        return {
            "pipeline": type(self.pipe).__name__,
            "solver": self.solver,
            "calibrate_at": self.calibrate_at,
            "weights": str(getattr(self.model, "model_dir", "") or ""),
            "dtype": str(next(self.model.generator.parameters()).dtype).removeprefix("torch."),
            "modelscope": _version(),
        }
