"""`CalibratedDiffusion`: stands where a model keeps its diffusion object, and calibrates before the solver runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...calibration import CalibrationTrace, NoiseCalibration, calibrate, is_identity
from ...holding import Hold
from ...mask import latent_weights
from .attention import working_attention
from .solving import CalibrateAt, estimate_x0, level_at, run_solver

__all__ = ["CalibratedDiffusion"]


@dataclass(frozen=True, eq=False)
class _Noised:
    reference: Tensor
    timestep: int
    x_t: Tensor


class CalibratedDiffusion:
    """The host's diffusion object with another `sample`: what `diffuse` noised is calibrated, then solved as ever.

    Args:
        diffusion: the host's own; it is called and never changed.
        settings: asked at every call how to calibrate and where (see `CalibrateAt`).
        on_trace: told the trace of every call of `sample`.

    Draws no random number of its own, so the host's stream is the one it has without it. Threads may call it side by
    side: what one has noised, it alone samples.
    """

    def __init__(
        self,
        diffusion: Any,
        settings: Callable[[], tuple[NoiseCalibration, CalibrateAt]],
        on_trace: Callable[[CalibrationTrace], None],
    ):
        self._diffusion, self._settings, self._on_trace = diffusion, settings, on_trace
        self._noised: dict[int, _Noised] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._diffusion, name)

    def diffuse(self, x0: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """The host's `diffuse`, remembered for the `sample` that follows.

        Raises:
            ValueError: a clip of one frame, which the host would only refuse when it decodes.
        """
        if x0.ndim == 5 and x0.shape[2] < 2:
            raise ValueError("the clip has one frame; this model takes at least 2")
        x_t: Tensor = self._diffusion.diffuse(x0, t, noise)
        self._noised[threading.get_ident()] = _Noised(x0, int(t.flatten()[0]), x_t)
        return x_t

    def sample(self, noise: Tensor, model: Any, model_kwargs: Any = None, **options: Any) -> Tensor:
        """The host's `sample`, from the calibrated latents.

        Raises:
            RuntimeError: `noise` is not what `diffuse` last returned, or the solver starts at another timestep: then
                there is no reference to calibrate against.
        """
        noised = self._noised.pop(threading.get_ident(), None)
        config, at = self._settings()
        options["model_kwargs"] = {} if model_kwargs is None else model_kwargs
        if noised is None or noised.x_t is not noise:
            raise RuntimeError(
                "sample was given latents that diffuse did not make, so there is nothing to calibrate against; "
                "call nc_refiner.unwrap(pipe) for such a use"
            )
        last = self._diffusion.num_timesteps - 1
        start = last if options.get("t_max") is None else int(options["t_max"])
        if start != noised.timestep:
            raise RuntimeError(
                f"the input was noised at timestep {noised.timestep} but the solver starts at {start}; "
                "give diffuse(t) and sample(t_max) the same timestep"
            )
        guidance = {name: options.get(name) for name in ("guide_scale", "guide_rescale", "clamp", "percentile")}
        if config.guidance_scale is not None and guidance["guide_scale"] is not None:
            guidance["guide_scale"] = config.guidance_scale
        config = config.settled(guidance["guide_scale"] == options.get("guide_scale"))

        def predict(x_t: Tensor) -> Tensor:
            return estimate_x0(self._diffusion, x_t, noised.timestep, at, model, options["model_kwargs"], **guidance)

        level = level_at(self._diffusion, noised.timestep)
        # As the host's own `sample` does: its pipelines reach here with gradients on, and a graph of N evaluations at
        # 720p would be out of memory.
        with torch.no_grad(), working_attention(model):
            weights = None if is_identity(config) else latent_weights(config.mask, noised.reference)
            done = calibrate(noise, noised.reference, level, predict, config, weights)
            self._on_trace(done.trace)
            hold = Hold.of(noised.reference, level, config, weights)
            return run_solver(self._diffusion, done.x_t, model, options, first_x0=done.x0, hold=hold)
