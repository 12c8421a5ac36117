"""ILVR (Choi et al. 2021, arXiv 2108.02938): the reference's low frequencies replace the sample's at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..frequency import LowPass
from .setting import Setting

__all__ = ["ilvr"]


def ilvr(setting: Setting, cutoff: float = 0.5) -> Tensor:
    """Denoise with `x ← x + L_ν(y − x)` after every step, `y = α x_r + σ e` at the level the step arrived at.

    The noise of `y` is the setting's own `e` throughout, as the sampler is deterministic; after the last step `y` is
    x_r itself. So the result's low band is the reference's (the published box weighs its outermost frequencies ½, and
    of those half remains), and at `cutoff = 1` the result is the reference.

    Args:
        setting: the window.
        cutoff: ν in [0, 1] of Nyquist; an empty band is plain SDEdit.

    Returns:
        Latents, shaped as `setting.reference`.

    Raises:
        ValueError: `cutoff` out of range, or the host runs its own solver.
    """
    setting.needs_own_loop("ILVR")
    adapter, timesteps, reference = setting.adapter, setting.timesteps, setting.reference
    low_pass = LowPass(reference.shape[-2], reference.shape[-1], cutoff)
    generator = setting.generator()
    x_t = setting.x_t
    with torch.no_grad():
        for index, timestep in enumerate(timesteps):
            x_t = adapter.step(x_t, setting.predict_x0(x_t, timestep), timesteps, index, generator)
            if low_pass.empty:
                continue
            wanted = reference
            if index + 1 < len(timesteps):
                wanted = adapter.noise_level(timesteps.values[index + 1]).add_noise(reference, setting.noise)
            x_t = x_t + low_pass(wanted - x_t) if not low_pass.identity else wanted
    return x_t
