"""Hears what the guider predicts, and answers the sampler's first question with the last prediction of calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .host import KEY

__all__ = ["Tap", "tapped"]

_POST, _PREDICT = "sampler_post_cfg_function", "predict_noise"


class Tap:
    """A wrapper of the guider's prediction (`PREDICT_NOISE`), for one run of a sampler.

    At first it lets everything through and remembers the latest prediction (`heard`). After `promise` it answers the
    next question itself, where that is the one foreseen, and lets everything through from then on.

    Attributes:
        heard: the latest input and x̂₀, as the guider gave it (no mask applied).
        kept: whether the promise was kept, so that the sampler's first evaluation was saved.
    """

    def __init__(self) -> None:
        self.heard: tuple[Tensor, Tensor] | None = None
        self.kept = False
        self._listening, self._looking = True, False
        self._guided: dict[str, Any] | None = None
        self._promise: Callable[[Tensor, Tensor, Mapping[str, Any]], Tensor | None] | None = None

    def __call__(
        self, executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None
    ) -> Tensor:
        """ComfyUI's call: the next wrapper and the guider's arguments."""
        options = {} if model_options is None else model_options
        if self._looking:
            self.heard = (x, torch.zeros_like(x))
            return self.heard[1]
        if self._listening:
            denoised = executor(x, timestep, self._overheard(options), seed)
            self.heard = (x, denoised)
            return denoised
        if self._promise is not None:
            promise, self._promise = self._promise, None
            answer = promise(x, timestep, options)
            self.heard, self._guided = None, None
            if answer is not None:
                self.kept = True
                return answer
        return executor(x, timestep, options, seed)

    def _overheard(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` in which a last function after guidance hands us its arguments."""

        def listen(arguments: dict[str, Any]) -> Tensor:
            kept = ("uncond_denoised", "cond_denoised", "cond", "uncond", "cond_scale", "model")
            self._guided = {name: arguments.get(name) for name in kept}
            denoised: Tensor = arguments["denoised"]
            return denoised

        return {**options, _POST: [*options.get(_POST, []), listen]}

    def close(self) -> None:
        """Forget everything and let everything through."""
        self.heard, self._guided, self._promise, self._listening = None, None, None, False

    def promise(self, ask: Callable[[], Any], sigma: Tensor, known: int, excess: Tensor) -> None:
        """Answer the sampler's first question with the latest prediction, less `excess`.

        Args:
            ask: asks the question that is foreseen, once; no model is run for it.
            sigma: the noise level it is at.
            known: how many functions after guidance belong to the model; those a sampler adds are called here.
            excess: what calibration took away, shaped as the prediction. At the same ε it comes off the guided, the
                conditional and the unconditional x̂₀ alike.
        """
        if self.heard is None:
            self.close()
            return
        denoised, guided = self.heard[1] - excess, self._guided
        self._looking = True
        ask()
        self._looking, self._listening = False, False
        expected = self.heard[0]

        def answer(x: Tensor, timestep: Tensor, options: Mapping[str, Any]) -> Tensor | None:
            if x.shape != expected.shape or not torch.allclose(timestep.max().to(sigma), sigma, rtol=1e-3, atol=0):
                return None
            if not torch.allclose(x.to(expected), expected, rtol=1e-3, atol=1e-3):
                return None
            found = denoised.to(x)
            for function in options.get(_POST, [])[known:]:
                # A sampler (the cfg++ ones) that asks for the unconditional prediction as well.
                if guided is None or guided["uncond"] is None:
                    return None
                shifted = {name: guided[name] - excess for name in ("uncond_denoised", "cond_denoised")}
                more = {"denoised": found, "sigma": timestep, "model_options": options, "input": x}
                found = function({**guided, **shifted, **more})
            return found

        self._promise = answer


def tapped(model_options: Mapping[str, Any], tap: Tap) -> dict[str, Any]:
    """`model_options` with the tap innermost; nothing in them is written to."""
    options = dict(model_options.get("transformer_options", {}))
    wrappers = dict(options.get("wrappers", {}))
    wrappers[_PREDICT] = {**wrappers.get(_PREDICT, {}), KEY: [tap]}
    return {**model_options, "transformer_options": {**options, "wrappers": wrappers}}
