"""The wrapper around a sampler: calibrates the noise the sampler starts from, then lets it run."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from nc_refiner.calibration import Calibrated, NoiseCalibration, calibration_steps, is_identity
from nc_refiner.correction import Correction
from nc_refiner.holding import Hold
from nc_refiner.noise_level import NoiseLevel

from .aside import changes_guidance, guidance, options_of, without_caches
from .holder import Holder, held
from .host import Host
from .latents import Part, level_of, picture_part
from .strictness import weights_of
from .tap import Tap, tapped

__all__ = ["Calibrator", "Run"]

LEAST_SIGNAL = 1e-3
"""α / √(α² + σ²) below which the start holds nothing of the latent: flow and zero terminal SNR at full denoise."""

log = logging.getLogger("nc_refiner.comfyui")


@dataclass(frozen=True)
class Run:
    """What the latest run of a sampler came to.

    Attributes:
        config: how calibration was asked for; where something was calibrated, with what was decided on reuse.
        content_loss: ‖L_ν(x̂₀ − x_r)‖ / ‖x_r‖ at every prediction made while calibrating.
        level: α and σ of the start; None where nothing was calibrated.
        saved: whether the sampler's first evaluation was saved.
        note: why nothing was calibrated; empty where it was.
    """

    config: NoiseCalibration
    content_loss: tuple[float, ...] = ()
    level: NoiseLevel | None = None
    saved: bool = False
    note: str = ""


class Calibrator:
    """A wrapper of ComfyUI's `SAMPLER_SAMPLE`.

    Args:
        config: how to calibrate.
        host: ComfyUI, or a stand-in.

    `last` is the latest run; None before the first. Nothing else of a run is kept.
    """

    def __init__(self, config: NoiseCalibration, host: Host):
        self.config, self.host = config, host
        self.last: Run | None = None
        self._warned = False

    def __call__(
        self,
        executor: Any,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Any:
        """ComfyUI's call: the next wrapper (`executor`), the guider (`model_wrap`) and the sampler's arguments.

        `noise` and `latent_image` are `(B, C, H, W)`, `(B, C, F, H, W)` or packed `(B, 1, n)`, never written to.

        Raises:
            ValueError: the model's estimate is not finite.
        """

        def sample(start: Tensor) -> Any:
            return executor(model_wrap, sigmas, extra_args, callback, start, latent_image, denoise_mask, disable_pbar)

        why = self._why_not(sigmas, noise, latent_image)
        if why or latent_image is None:
            return self._passed_on(why, sample(noise))
        inner = model_wrap.inner_model
        shapes = getattr(inner, "latent_shapes", None) or getattr(model_wrap, "latent_shapes", None)
        part = picture_part(latent_image, shapes)
        if part is None or is_identity(self.config, part.shape[-2], part.shape[-1]):
            why = "the latent has no height and width" if part is None else "at this size the cutoff keeps nothing"
            return self._passed_on(why, sample(noise))
        sampler = executor.class_obj
        most = bool(sampler.max_denoise(model_wrap, sigmas)) if hasattr(sampler, "max_denoise") else False
        weights = weights_of(self.config.mask, part)
        if weights is not None and Correction(self.config, part.shape, weights).empty:
            return self._passed_on("the mask is black: nothing is to be kept", sample(noise))
        level = level_of(inner.model_sampling.noise_scaling, sigmas[0], noise, part, most)
        if level is None:
            return self._passed_on("this model noises parts of the latent unequally", sample(noise))
        if level.sigma == 0 or level.alpha < LEAST_SIGNAL * level.norm:
            why = "the sampler starts from pure noise, which keeps nothing of the latent; use a lower denoise"
            self._warn(why)
            return self._passed_on(why, sample(noise))
        start = _Start(noise, latent_image, denoise_mask, sigmas, part, level, most, weights)
        config = self.config.settled(not changes_guidance(model_wrap, self.config.guidance_scale, self.host))
        tap = Tap() if config.reuse_prediction else None
        trial = _Trial(config, self.host, model_wrap, sampler, extra_args, start)
        spread = None if weights is None else weights.to(latent_image.device)
        hold = Hold.of(part.of(latent_image), level, self.config, spread)
        try:
            with torch.no_grad():
                done, calibrated = trial.calibrated(tap)
            self.last = Run(config, done.trace.content_loss, level)
            options = model_wrap.model_options if tap is None else tapped(model_wrap.model_options, tap)
            if hold is not None:
                options = held(options, Holder(hold, part, sigmas))
            with options_of(model_wrap, options):
                answer = sample(calibrated)
            if tap is not None:
                self.last = Run(config, done.trace.content_loss, level, tap.kept)
            return answer
        finally:
            if tap is not None:
                tap.close()

    def _why_not(self, sigmas: Tensor, noise: Tensor, latent: Tensor | None) -> str:
        if is_identity(self.config):
            return "it is set to change nothing (0 iterations or cutoff 0)"
        if latent is None or latent.shape != noise.shape or not bool(latent.count_nonzero()):
            return "the latent is empty: there is nothing to keep"
        if not bool(noise.count_nonzero()):
            return "this sampler adds no noise (add_noise is disabled): calibrate in the one that does"
        if len(sigmas) < 2:
            return "there is no step to run"
        return ""

    def _passed_on(self, why: str, answer: Any) -> Any:
        self.last = Run(self.config, note=why)
        log.info("Noise Calibration did nothing: %s", why)
        return answer

    def _warn(self, why: str) -> None:
        if not self._warned:
            log.warning("Noise Calibration can do nothing: %s", why)
        self._warned = True


@dataclass(frozen=True, eq=False)
class _Start:
    """What the sampler was given, and what was found out about it: `most` is ComfyUI's `max_denoise`, `weights` are
    those of the calibration's own mask (`mask` is the sampler's)."""

    noise: Tensor
    latent: Tensor
    mask: Tensor | None
    sigmas: Tensor
    part: Part
    level: NoiseLevel
    most: bool
    weights: Tensor | None


class _Trial:
    """One run of a sampler, until its start is calibrated."""

    def __init__(
        self,
        config: NoiseCalibration,
        host: Host,
        guider: Any,
        sampler: Any,
        extra_args: dict[str, Any],
        start: _Start,
    ):
        self.config, self.host, self.guider = config, host, guider
        self.noise, self.latent, self.mask = start.noise, start.latent, start.mask
        self.sigmas, self.part, self.level, self.most = start.sigmas, start.part, start.level, start.most
        self.weights = start.weights
        self.options, self.seed = extra_args["model_options"], extra_args.get("seed")
        self.quiet = without_caches(self.options)
        self.sigma = self.sigmas[0] * self.noise.new_ones([self.noise.shape[0]])
        self.model = self.host.masked_model(guider, self.sigmas)
        self.model.latent_image = self.latent
        self.start = self._scaled(self.noise)
        self.other_noise = self._noise_under_the_mask(sampler)
        self.open = self._open()

    def _scaled(self, noise: Tensor) -> Tensor:
        """What the sampler will start from, by the model's own rule."""
        rule = self.guider.inner_model.model_sampling.noise_scaling
        return cast(Tensor, rule(self.sigmas[0], noise, self.latent, self.most))

    def _noise_under_the_mask(self, sampler: Any) -> Tensor | None:
        """ddim noises what the mask keeps with a noise of its own, one seed further on; None for the sampler's own."""
        if self.mask is None or not getattr(sampler, "inpaint_options", {}).get("random", False):
            return None
        seed = 41 if self.seed is None else self.seed
        generator = torch.Generator().manual_seed(seed + 1)
        return torch.randn(self.noise.shape, generator=generator).to(self.noise)

    def _open(self) -> Tensor | None:
        """How far the first step may change each value, 0…1; None: all of them freely."""
        change = self.options.get("denoise_mask_function")
        if self.mask is None or change is None:
            return self.mask
        more = {"model": self.guider, "sigmas": self.sigmas}
        return cast(Tensor, change(self.sigma, self.mask, extra_options=more))

    def _spread(self, part: Tensor) -> Tensor:
        """A change of the picture as a change of everything the sampler has, nothing where the mask keeps."""
        whole = self.part.put(torch.zeros_like(self.noise), part.to(self.noise))
        return whole if self.open is None else whole * self.open

    def _noise_for(self, x_t: Tensor) -> Tensor:
        """The noise from which the sampler forms the picture's `x_t`."""
        return self.noise + self._spread(x_t - self.part.of(self.start)) / self.level.sigma

    def _predict(self, x_t: Tensor) -> Tensor:
        """x̂₀ of the picture at its `x_t`, exactly as the sampler's first step would ask for it."""
        self.host.check_interrupt()
        noise = self._noise_for(x_t)
        self.model.noise = noise if self.other_noise is None else self.other_noise
        x0 = self.model(
            self._scaled(noise), self.sigma, denoise_mask=self.mask, model_options=self.quiet, seed=self.seed
        )
        return self.part.of(cast(Tensor, x0))

    def calibrated(self, tap: Tap | None) -> tuple[Calibrated, Tensor]:
        """What the core came to, and the noise to hand to the sampler."""
        heard = without_caches(self.guider.model_options)
        with ExitStack() as stack:
            stack.enter_context(options_of(self.guider, heard if tap is None else tapped(heard, tap)))
            stack.enter_context(guidance(self.guider, self.config.guidance_scale, self.host))
            steps = calibration_steps(
                self.part.of(self.start), self.part.of(self.latent), self.level, self.config, self.weights
            )
            estimate = None
            try:
                wanted = next(steps)
                while True:
                    estimate = self._predict(wanted)
                    wanted = steps.send(estimate)
            except StopIteration as stop:
                done = cast(Calibrated, stop.value)
            if tap is not None and done.x0 is not None and estimate is not None:
                excess = self._spread(estimate.to(done.x0) - done.x0)
                known = len(self.quiet.get("sampler_post_cfg_function", []))
                tap.promise(lambda: self._predict(done.x_t), self.sigmas[0], known, excess)
        return done, self._noise_for(done.x_t)
