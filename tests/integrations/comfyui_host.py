"""A host of our own that keeps to the facts about ComfyUI's samplers, so that the node's logic is always tested.

It shares nothing with ComfyUI but the facts: in which order a sampler is called with what, how it noises, what a guider
does with its options. tests/hosts/test_comfyui.py runs the same logic on ComfyUI itself.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from integrations.comfyui.host import KEY, Host


class Interrupted(Exception):
    """What pressing stop raises."""


class Schedule:
    """How latents and noise are mixed: `flow` or Karras-scaled (`eps`)."""

    sigma_max = 14.6

    def __init__(self, flow: bool):
        self.flow = flow

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent: Tensor, max_denoise: bool = False) -> Tensor:
        if self.flow:
            return (1 - sigma) * latent + sigma * noise
        return latent + (torch.sqrt(1 + sigma**2) if max_denoise else sigma) * noise


def chained(wrappers: list[Callable[..., Any]], last: Callable[..., Any], owner: Any = None) -> Any:
    """`last` within its wrappers, the first outermost; each is called with the next and the arguments."""

    class Executor:
        class_obj = owner

        def __init__(self, index: int):
            self.index = index

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if self.index == len(wrappers):
                return last(*args, **kwargs)
            return wrappers[self.index](Executor(self.index + 1), *args, **kwargs)

    return Executor(0)


def wrappers_in(options: dict[str, Any], place: str) -> list[Callable[..., Any]]:
    found = options.get("transformer_options", {}).get("wrappers", {}).get(place, {})
    return [wrapper for some in found.values() for wrapper in some]


class Guider:
    """Guides x̂₀ of a function of (x, σ, prompt) between a positive and a negative prompt."""

    def __init__(self, predict: Callable[[Tensor, Tensor, float], Tensor], flow: bool = False, cfg: float = 3.0):
        self.predict, self.cfg = predict, cfg
        self.inner_model = SimpleNamespace(model_sampling=Schedule(flow))
        self.conds: dict[str, Any] = {"positive": [0.3], "negative": [-0.2]}
        self.model_options: dict[str, Any] = {"transformer_options": {"wrappers": {}}}
        self.evaluations = 0

    def wrap(self, place: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.model_options["transformer_options"]["wrappers"].setdefault(place, {}).setdefault(key, []).append(wrapper)

    def __call__(self, x: Tensor, sigma: Tensor, model_options: Any = None, seed: Any = None) -> Tensor:
        chain = chained(wrappers_in(self.model_options, "predict_noise"), self.predict_noise)
        return chain(x, sigma, model_options or {}, seed)

    def predict_noise(self, x: Tensor, sigma: Tensor, model_options: Any, seed: Any = None) -> Tensor:
        chain = chained(wrappers_in(model_options, "calc_cond_batch"), self._both)
        positive, negative = chain(x, sigma, self.cfg == 1 and not model_options.get("disable_cfg1_optimization"))
        guided = positive if negative is None else negative + self.cfg * (positive - negative)
        for function in model_options.get("sampler_post_cfg_function", []):
            told = {"denoised": guided, "cond_denoised": positive, "uncond_denoised": negative, "cond": [0.3]}
            guided = function({**told, "uncond": None if negative is None else [-0.2], "sigma": sigma, "input": x})
        return guided

    def _both(self, x: Tensor, sigma: Tensor, alone: bool) -> tuple[Tensor, Tensor | None]:
        self.evaluations += 1
        at = sigma.reshape(-1, *[1] * (x.ndim - 1))
        positive = self.predict(x, at, self.conds["positive"][0])
        return positive, None if alone else self.predict(x, at, self.conds["negative"][0])


class Masked:
    """x̂₀ as samplers see it: what the mask keeps is put in before the guider and after it."""

    def __init__(self, guider: Guider, sigmas: Tensor):
        self.inner_model, self.sigmas = guider, sigmas
        self.noise: Tensor
        self.latent_image: Tensor

    def __call__(self, x: Tensor, sigma: Tensor, denoise_mask: Any, model_options: Any, seed: Any = None) -> Tensor:
        if denoise_mask is None:
            return self.inner_model(x, sigma, model_options, seed)
        at = sigma.reshape(-1, *[1] * (x.ndim - 1))
        kept = self.inner_model.inner_model.model_sampling.noise_scaling(at, self.noise, self.latent_image)
        seen = self.inner_model(denoise_mask * x + (1 - denoise_mask) * kept, sigma, model_options, seed)
        return denoise_mask * seen + (1 - denoise_mask) * self.latent_image


class Sampler:
    """Euler's steps, or with `plus` those that go along the unconditional prediction (cfg++)."""

    def __init__(self, plus: bool = False, random: bool = False):
        self.plus, self.inpaint_options = plus, {"random": random}

    def max_denoise(self, guider: Guider, sigmas: Tensor) -> bool:
        return float(sigmas[0]) >= guider.inner_model.model_sampling.sigma_max

    def sample(
        self, guider: Guider, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
        latent_image: Tensor, denoise_mask: Tensor | None = None, disable_pbar: bool = False,
    ) -> Tensor:  # fmt: skip
        model = Masked(guider, sigmas)
        model.latent_image, model.noise = latent_image, noise
        if self.inpaint_options["random"]:
            torch.manual_seed(extra_args["seed"] + 1)
            model.noise = torch.randn(noise.shape)
        x = guider.inner_model.model_sampling.noise_scaling(
            sigmas[0], noise, latent_image, self.max_denoise(guider, sigmas)
        )
        options, told = dict(extra_args["model_options"]), {}
        if self.plus:

            def hear(arguments: dict[str, Any]) -> Tensor:
                told["x0"] = arguments["uncond_denoised"]
                return arguments["denoised"]

            options["sampler_post_cfg_function"] = [*options.get("sampler_post_cfg_function", []), hear]
            options["disable_cfg1_optimization"] = True
        for index, (sigma, below) in enumerate(pairwise(sigmas)):
            x0 = model(x, sigma * x.new_ones(len(x)), denoise_mask, options, extra_args["seed"])
            if callback is not None:
                callback(index, x0, x, len(sigmas) - 1)
            along = told["x0"] if self.plus else x0
            x = x0 + (x - along) / sigma * below
        return x


def host(stop: Callable[[], None] = lambda: None) -> Host:
    """The stand-in, as the node's logic asks for it."""
    return Host(masked_model=Masked, plain_guider=Guider, check_interrupt=stop)


def run(
    guider: Guider, calibrator: Any, noise: Tensor, latent: Tensor, sigmas: Tensor, mask: Tensor | None = None,
    sampler: Sampler | None = None, callback: Any = None, seed: int = 5, options: dict[str, Any] | None = None,
) -> Tensor:  # fmt: skip
    """Sample as ComfyUI does: the sampler within the model's wrappers, with the model's options in `extra_args`."""
    sampler = sampler or Sampler()
    wrappers = wrappers_in(guider.model_options, "sampler_sample")
    if calibrator is not None:
        wrappers = [*wrappers, calibrator]
    extra = {"model_options": {**guider.model_options, **(options or {})}, "seed": seed}
    return chained(wrappers, sampler.sample, sampler)(guider, sigmas, extra, callback, noise, latent, mask, True)


__all__ = ["KEY", "Guider", "Interrupted", "Masked", "Sampler", "host", "run"]
