"""Holds the sampler's estimates to the input, in the guider's own prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

from nc_refiner.holding import Hold

from .host import KEY
from .latents import Part

__all__ = ["Holder", "held", "position"]

_PREDICT = "predict_noise"


def position(sigmas: Tensor, sigma: float) -> float:
    """Which step of a falling schedule `sigma` belongs to, counted from 0; between two where it lies between them.

    >>> position(Tensor([4.0, 2.0, 0.0]), 3.0)
    0.5
    """
    levels = [float(value) for value in sigmas]
    for index, (above, below) in enumerate(pairwise(levels)):
        if sigma >= above:
            return float(index)
        if sigma > below:
            return index + (above - sigma) / (above - below)
    return float(len(levels) - 1)


class Holder:
    """A wrapper of the guider's prediction (`PREDICT_NOISE`): x̂₀ comes out held, for one run of a sampler.

    Args:
        hold: for the picture within what the sampler has.
        part: which part that is.
        sigmas: the sampler's own, one more than it has steps.
    """

    def __init__(self, hold: Hold, part: Part, sigmas: Tensor):
        self._hold, self._part, self._sigmas = hold, part, sigmas

    def __call__(
        self, executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None
    ) -> Tensor:
        """ComfyUI's call: the next wrapper and the guider's arguments."""
        denoised = executor(x, timestep, {} if model_options is None else model_options, seed)
        picture = self._part.of(denoised)
        step = position(self._sigmas, float(timestep.max()))
        changed = self._hold(picture, step, len(self._sigmas) - 1)
        return denoised if changed is picture else self._part.put(denoised, changed)


def held(model_options: Mapping[str, Any], holder: Holder) -> dict[str, Any]:
    """`model_options` with the holder outermost; nothing in them is written to."""
    options = dict(model_options.get("transformer_options", {}))
    wrappers = dict(options.get("wrappers", {}))
    wrappers[_PREDICT] = {f"{KEY}_hold": [holder], **wrappers.get(_PREDICT, {})}
    return {**model_options, "transformer_options": {**options, "wrappers": wrappers}}
