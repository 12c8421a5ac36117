"""`wrap`, `unwrap` and `calibrated` for VideoCrafter's own `batch_ddim_sampling(x0=…, start_timesteps=…)`.

The host noises inside its sampler, through `model.q_sample`; an override on that one instance calibrates there. The
guidance reaches it through the call: `q_sample` is called by the sampler's `ddim_sampling`, whose local variables are
the conditions, the scale and everything else its next prediction will be made with. They are read (never written)
from the calling frame, and x̂₀ comes from the sampler's own `p_sample_ddim` with exactly these. The noise which that
draws for a step nobody takes comes from a generator of its own: the host's use of random numbers is unchanged.

Where a sampling goes another way (a renamed copy of `ddim_sampling`, `q_sample` by hand before `decode`, no
`start_timesteps`), nothing is calibrated, and a warning says so once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ...calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate, is_identity
from ...holding import Hold
from ...mask import latent_weights
from ..recognition import missing_attributes
from ..runtime import drawing_from, in_scope, replaced, scope_of
from .held import hold_steps, let_go
from .schedule import noise_level

__all__ = ["calibrated", "settings_of", "unwrap", "wrap"]

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


_NEEDED = ("self", "cond", "index", "start_timesteps", "init_x0", "unconditional_guidance_scale")
"""Local variables of `ddim_sampling` without which it is not the function this was written for."""


def _sampling_frame(model: Any) -> FrameType | None:
    """The frame of the `ddim_sampling` of a sampler over `model` that is running in this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "ddim_sampling":
            over = getattr(frame.f_locals.get("self"), "model", None)
            if over is model:
                return frame
        frame = frame.f_back
    return None


class _Watch:
    """What the stand-ins on one model share: its settings, and what has been said already."""

    def __init__(self, model: Any, config: NoiseCalibration):
        self.model, self.config = model, config
        self.said: set[str] = set()

    @property
    def settings(self) -> NoiseCalibration:
        """Those of this thread's innermost `calibrated` block, else of `wrap`."""
        found: NoiseCalibration = scope_of(self.model) or self.config
        return found

    def say(self, what: str) -> None:
        config = self.settings
        if what in self.said or config.iterations == 0 or config.cutoff == 0:
            return
        self.said.add(what)
        warnings.warn(
            f"this sampling is not calibrated: {what}. Call batch_ddim_sampling(model, …, x0=latents, "
            "start_timesteps=0.6), or use CalibratedRefiner.from_name('videocrafter', …)",
            stacklevel=4,
        )


class _WatchedApplyModel:
    """Stands in for `model.apply_model` on the instance: lets everything through, and notes a start from pure noise."""

    def __init__(self, watch: _Watch):
        self.watch = watch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model = self.watch.model
        frame = _sampling_frame(model)
        if frame is not None and frame.f_locals.get("start_timesteps") is None:
            self.watch.say("without start_timesteps it starts from pure noise")
        return type(model).apply_model(model, *args, **kwargs)


class _CalibratingQSample:
    """Stands in for `model.q_sample` on the instance."""

    def __init__(self, watch: _Watch):
        self.watch, self.model = watch, watch.model

    @property
    def config(self) -> NoiseCalibration:
        return self.watch.settings

    def __call__(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        x_t: Tensor = type(self.model).q_sample(self.model, x_start, t, noise=noise)
        frame = _sampling_frame(self.model)
        if frame is None:
            if not torch.is_grad_enabled() or not self.model.training:
                self.watch.say("q_sample was called outside a sampler's `ddim_sampling`")
            return x_t
        local = dict(frame.f_locals)
        absent = [name for name in _NEEDED if name not in local]
        if absent:
            raise RuntimeError(
                f"the sampler's ddim_sampling has no local {', '.join(absent)}, which the calibration reads; it is not "
                "VideoCrafter's own. Call nc_refiner.unwrap(model), or use CalibratedRefiner.from_name('videocrafter')"
            )
        if local["start_timesteps"] is None or local["init_x0"]:  # it blends in a mask
            return x_t
        with torch.no_grad():
            done = self._calibrate(x_t, x_start, t, local)
        vars(self.model)["calibration_trace"] = done.trace
        return done.x_t

    def _calibrate(self, x_t: Tensor, reference: Tensor, t: Tensor, local: dict[str, Any]) -> Calibrated:
        sampler, level = local["self"], noise_level(self.model, int(t[0]))
        arguments = {name: local[name] for name in _PASSED_ON if name in local} | local.get("kwargs", {})
        if self.config.guidance_scale is not None:
            arguments["unconditional_guidance_scale"] = self.config.guidance_scale
        aside = torch.Generator().manual_seed(0)

        def predict(latents: Tensor) -> Tensor:
            with drawing_from(aside):
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

        let_go(sampler)
        weights = None if is_identity(self.config) else latent_weights(self.config.mask, reference)
        done = calibrate(x_t, reference, level, predict, self.config, weights)
        hold = Hold.of(reference, level, self.config, weights)
        if hold is not None:
            hold_steps(sampler, hold, done.x_t, int(local["index"]))
        return done


def _check(model: Any, config: NoiseCalibration) -> None:
    missing = missing_attributes(model)
    if missing:
        raise TypeError(f"{type(model).__name__} is no VideoCrafter model: it lacks {', '.join(missing)}")
    if config.reuse_prediction:
        raise ValueError("reuse_prediction is not possible here: VideoCrafter's sampler makes every prediction itself")


def wrap(model: Any, config: NoiseCalibration) -> Any:
    """Calibrate every `batch_ddim_sampling(model, …, x0=…, start_timesteps=…)` from now on; returns `model` itself.

    The model owns its sampling, so the change is made on the instance: `q_sample`, `apply_model` (watched only), and
    `calibration_trace`, which holds the content loss of the last call. `unwrap` takes them off. Wrapping again changes
    the settings. Other uses of `q_sample` (training, masks) stay stock; a sampling that goes past it warns once.
    `config.guidance_scale` replaces the call's scale while calibrating.

    Raises:
        TypeError: no VideoCrafter model. ValueError: `reuse_prediction`, which this host cannot do.
    """
    _check(model, config)
    unwrap(model)
    for name, value in _stand_ins(model, config).items():
        vars(model)[name] = value
    return model


def settings_of(model: Any) -> tuple[NoiseCalibration, dict[str, Any]] | None:
    """The configuration a model was wrapped with, and no options; None for one that is not wrapped."""
    found = vars(model).get("q_sample")
    return (found.watch.config, {}) if isinstance(found, _CalibratingQSample) else None


def _stand_ins(model: Any, config: NoiseCalibration) -> dict[str, Any]:
    watch = _Watch(model, config)
    return {
        "q_sample": _CalibratingQSample(watch),
        "apply_model": _WatchedApplyModel(watch),
        "calibration_trace": CalibrationTrace(),
    }


def unwrap(model: Any) -> Any:
    """Take off what `wrap` put on; returns `model`, and leaves one that is not wrapped as it is."""
    if isinstance(vars(model).get("q_sample"), _CalibratingQSample):
        for name in ("q_sample", "apply_model", "calibration_trace"):
            vars(model).pop(name, None)
    return model


@contextmanager
def calibrated(model: Any, config: NoiseCalibration) -> Iterator[Any]:
    """`wrap` for the length of a block; afterwards the instance holds what it held. Blocks may be nested, and each
    thread goes by its own.
    """
    _check(model, config)
    with ExitStack() as stack:
        for name, value in _stand_ins(model, config).items():
            stack.enter_context(replaced(model, name, value))
        stack.enter_context(in_scope(model, config))
        yield model
