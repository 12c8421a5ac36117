"""`wrap`, `unwrap` and `calibrated` for VideoCrafter's own `batch_ddim_sampling(x0=…, start_timesteps=…)`.

The host noises inside its sampler, through `model.q_sample`; an override on that one instance calibrates there. The
guidance reaches it through the call: `q_sample` is called by the sampler's `ddim_sampling`, whose local variables are
the conditions, the scale and everything else its next prediction will be made with. They are read (never written)
from the calling frame, and x̂₀ comes from the sampler's own `p_sample_ddim` with exactly these. The noise which that
draws for a step nobody takes is drawn from a forked random state: the host's own use of it is unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ...calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate
from ..recognition import missing_attributes
from .schedule import noise_level

__all__ = ["calibrated", "unwrap", "wrap"]

_PASSED_ON = (
    "quantize_denoised",
    "temperature",
    "noise_dropout",
    "score_corrector",
    "corrector_kwargs",
    "unconditional_guidance_scale",
    "unconditional_conditioning",
    "x0",
)
"""Local variables of `ddim_sampling` that it hands to `p_sample_ddim` under the same name."""


def _sampling_frame(model: Any) -> FrameType | None:
    """The frame of the sampler that is just noising its start latents through `model.q_sample`."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "ddim_sampling":
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return None
    found = frame.f_locals
    starts = found.get("start_timesteps") is not None and not found.get("init_x0", True)
    return frame if starts and getattr(found.get("self"), "model", None) is model else None


class _CalibratingQSample:
    """Stands in for `model.q_sample` on the instance."""

    def __init__(self, model: Any, config: NoiseCalibration):
        self.model, self.config = model, config

    def __call__(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        x_t: Tensor = type(self.model).q_sample(self.model, x_start, t, noise=noise)
        frame = _sampling_frame(self.model)
        if frame is None:
            return x_t
        done = self._calibrate(x_t, x_start, t, dict(frame.f_locals))
        vars(self.model)["calibration_trace"] = done.trace
        return done.x_t

    def _calibrate(self, x_t: Tensor, reference: Tensor, t: Tensor, local: dict[str, Any]) -> Calibrated:
        sampler = local["self"]
        arguments = {name: local[name] for name in _PASSED_ON if name in local} | local.get("kwargs", {})
        if self.config.guidance_scale is not None:
            arguments["unconditional_guidance_scale"] = self.config.guidance_scale
        devices = [x_t.device] if x_t.device.type == "cuda" else []

        def predict(latents: Tensor) -> Tensor:
            with torch.no_grad(), torch.random.fork_rng(devices=devices):
                _, x0 = sampler.p_sample_ddim(
                    latents,
                    local["cond"],
                    t,
                    index=local["index"],
                    use_original_steps=local.get("ddim_use_original_steps", False),
                    **arguments,
                )
            found: Tensor = x0
            return found

        return calibrate(x_t, reference, noise_level(self.model, int(t[0])), predict, self.config)


def _check(model: Any, config: NoiseCalibration) -> None:
    missing = missing_attributes(model)
    if missing:
        raise TypeError(f"{type(model).__name__} is no VideoCrafter model: it lacks {', '.join(missing)}")
    if config.reuse_prediction:
        raise ValueError("reuse_prediction is not possible here: VideoCrafter's sampler makes every prediction itself")


def wrap(model: Any, config: NoiseCalibration) -> Any:
    """Calibrate every `batch_ddim_sampling(model, …, x0=…, start_timesteps=…)` from now on; returns `model` itself.

    The model owns its sampling, so the change is made on the instance: `q_sample`, and `calibration_trace`, which
    holds the content loss of the last call. `unwrap` takes both off. Wrapping again changes the settings. Other uses
    of `q_sample` (training, masks) stay stock. `config.guidance_scale` replaces the call's scale while calibrating.

    Raises:
        TypeError: no VideoCrafter model. ValueError: `reuse_prediction`, which this host cannot do.
    """
    _check(model, config)
    vars(model)["q_sample"] = _CalibratingQSample(model, config)
    vars(model)["calibration_trace"] = CalibrationTrace()
    return model


def unwrap(model: Any) -> Any:
    """Take off what `wrap` put on; returns `model`, and leaves one that is not wrapped as it is."""
    if isinstance(vars(model).get("q_sample"), _CalibratingQSample):
        del vars(model)["q_sample"]
        vars(model).pop("calibration_trace", None)
    return model


@contextmanager
def calibrated(model: Any, config: NoiseCalibration) -> Iterator[Any]:
    """`wrap` for the length of a block; afterwards the instance holds what it held. Blocks may be nested."""
    before = {name: vars(model)[name] for name in ("q_sample", "calibration_trace") if name in vars(model)}
    wrap(model, config)
    try:
        yield model
    finally:
        unwrap(model)
        vars(model).update(before)
