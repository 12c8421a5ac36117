"""Noise inversion (Song et al. 2021, arXiv 2010.02502, §4.3): the noise from which DDIM would make the reference."""

from __future__ import annotations

from torch import Tensor

from ..noise_level import NoiseLevel
from .setting import Setting

__all__ = ["invert"]


def invert(setting: Setting) -> Tensor:
    """x_t at the setting's initial timestep by running the sampler's steps backwards from x_r, without any noise.

    From level (α, σ) up to (α', σ') of timestep t': ε = ε_θ(x, t'), `x ← α'·(x − σ ε)/α + σ' ε`. That evaluates ε one
    step early, which is the usual approximation: the finer the steps, the nearer denoising comes back to x_r.

    Returns:
        Latents to denoise from, shaped as `setting.reference`; one evaluation per step.

    Raises:
        ValueError: the host runs its own solver.
    """
    setting.needs_own_loop("noise inversion")
    x, level = setting.reference, NoiseLevel(1.0, 0.0)
    for timestep in reversed(list(setting.timesteps)):
        above = setting.adapter.noise_level(timestep)
        epsilon = above.noise_in(x, setting.predict_x0(x, timestep))
        x = above.add_noise((x - level.sigma * epsilon) / level.alpha, epsilon)
        level = above
    return x
