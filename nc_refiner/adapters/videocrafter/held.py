"""`hold` in the host's own sampler: its DDIM step is let happen and then moved to where a held estimate leads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...holding import Hold
from .schedule import noise_level

__all__ = ["hold_steps", "let_go"]

_STEP = "p_sample_ddim"


class _HeldStep:
    """Stands in for a sampler's `p_sample_ddim` through one sampling; takes itself off after its last step, and where
    the sampler steps from other latents than those it was handed back.
    """

    def __init__(self, sampler: Any, hold: Hold, start: Tensor, index: int):
        self._sampler, self._hold, self._steps, self._expected = sampler, hold, index + 1, start

    def __call__(self, x: Tensor, c: Any, t: Tensor, index: int, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        x_prev, x0 = type(self._sampler).p_sample_ddim(self._sampler, x, c, t, index, *args, **options)
        if x is not self._expected:
            let_go(self._sampler)
            return x_prev, x0
        with torch.no_grad():
            held = self._hold(x0, self._steps - 1 - index, self._steps)
            if held is not x0:
                original = bool(options.get("use_original_steps", False))
                x_prev = x_prev + self._moves(t, index, original) * (held - x0)
        self._expected = x_prev
        if index == 0:
            let_go(self._sampler)
        return x_prev, held

    def _moves(self, t: Tensor, index: int, original: bool) -> float:
        """How far the next latents move with the estimate: x₀'s share, less that of the noise it leaves in `x`."""
        sampler, model = self._sampler, self._sampler.model
        before = model.alphas_cumprod_prev if original else sampler.ddim_alphas_prev
        spread = model.ddim_sigmas_for_original_num_steps if original else sampler.ddim_sigmas
        bar, fresh, scale = float(before[index]), float(spread[index]), 1.0
        if sampler.use_scale:
            scale = float((model.scale_arr_prev if original else sampler.ddim_scale_arr_prev)[index])
        level = noise_level(model, int(t.flatten()[0]))
        return bar**0.5 * scale - max(0.0, 1 - bar - fresh**2) ** 0.5 * level.alpha / level.sigma


def hold_steps(sampler: Any, hold: Hold, start: Tensor, index: int) -> None:
    """Hold every estimate of the sampling that is about to step from `start` at DDIM index `index`."""
    vars(sampler)[_STEP] = _HeldStep(sampler, hold, start, index)


def let_go(sampler: Any) -> None:
    """Take `hold_steps` off again; nothing else on the sampler is touched."""
    if isinstance(vars(sampler).get(_STEP), _HeldStep):
        del vars(sampler)[_STEP]
