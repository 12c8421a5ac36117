"""Self-refining by re-noising at one level (the idea of arXiv 2601.18577): predict, noise that anew, again."""

from __future__ import annotations

import torch
from torch import Tensor

from .setting import Setting

__all__ = ["renoised"]


def renoised(setting: Setting, repeats: int = 3) -> Tensor:
    """The noisy latents after `repeats` times `x_t ← α x̂₀(x_t) + σ e`, with a fresh `e` each time.

    Each repeat costs one evaluation, as an iteration of calibration does. Nothing in it knows the reference: what the
    first x̂₀ has lost stays lost, and each repeat moves further to what the model likes.

    Args:
        setting: the window.
        repeats: at least 0; with 0 this is SDEdit's start.

    Returns:
        x_t, shaped as `setting.reference`, to be denoised from the first timestep.

    Raises:
        ValueError: `repeats` below 0, or the host runs its own solver.
    """
    setting.needs_own_loop("re-noising")
    if repeats < 0:
        raise ValueError(f"repeats is {repeats}; it must be at least 0")
    # Denoising draws from the setting's own generator: this noise comes from one seeded by it, not from its numbers.
    seed = int(torch.randint(2**62, (1,), generator=setting.generator()))
    generator = torch.Generator().manual_seed(seed)
    x_t = setting.x_t
    for _ in range(repeats):
        x0 = setting.predict_x0(x_t, setting.timesteps.first)
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        x_t = setting.level.add_noise(x0, noise)
    return x_t
