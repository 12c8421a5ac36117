"""The host's own noise schedule: DDIM timesteps, the scales of x₀ and noise, one DDIM step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...noise_level import NoiseLevel

__all__ = ["DDIMSchedule", "ddim_timesteps", "implied_x0", "noise_level"]


def _works(num_train_timesteps: int, steps: int) -> bool:
    stride = num_train_timesteps // steps
    return (num_train_timesteps - 1) // stride * stride + 1 < num_train_timesteps


def ddim_timesteps(num_train_timesteps: int, num_inference_steps: int) -> Tensor:
    """The host's uniform DDIM timesteps `1, 1 + c, 1 + 2c, …` with `c = T // S`, rising, int64.

    There may be more than S of them (T = 1000, S = 30: 31).

    Raises:
        ValueError: S is out of range, or one of those (3, 9, 27, 36, …) for which the host's rule reaches
            timestep T, which does not exist: its own sampler fails with an IndexError there.
    """
    total, steps = num_train_timesteps, num_inference_steps
    if not 1 <= steps <= total:
        raise ValueError(f"num_inference_steps is {steps}; it must lie in 1…{total}")
    if not _works(total, steps):
        near = sorted((s for s in range(1, total) if _works(total, s)), key=lambda s: abs(s - steps))[:2]
        raise ValueError(
            f"num_inference_steps is {steps}: VideoCrafter's DDIM rule would then need timestep {total} of "
            f"0…{total - 1}; the nearest that work are {' and '.join(map(str, sorted(near)))}"
        )
    return torch.arange(0, total, total // steps) + 1


def _scale(model: Any, timestep: int) -> float:
    """The factor on x₀ at `timestep` (`use_scale`, `scale_arr`); 1 where the host has none."""
    return float(model.scale_arr[timestep]) if getattr(model, "use_scale", False) else 1.0


def noise_level(model: Any, timestep: int) -> NoiseLevel:
    """α = √ᾱ · scale and σ = √(1−ᾱ) as the host's `q_sample` applies them; α² + σ² ≠ 1 where it scales."""
    alpha_bar = float(model.alphas_cumprod[timestep])
    return NoiseLevel(alpha_bar**0.5 * _scale(model, timestep), (1 - alpha_bar) ** 0.5)


def _host_tensor(model: Any, value: float) -> Tensor:
    """A coefficient as the host keeps it: float32 and five-dimensional; a number would divide and add differently."""
    return torch.full((1, 1, 1, 1, 1), value, dtype=torch.float32, device=model.alphas_cumprod.device)


def implied_x0(model: Any, x_t: Tensor, epsilon: Tensor, timestep: int) -> Tensor:
    """x̂₀ that `epsilon` implies at `x_t`, in the host's order of operations; the scale on x₀ is taken off."""
    alpha_bar = _host_tensor(model, float(model.alphas_cumprod[timestep]))
    # The host takes this root through NumPy, whose last bit is not always PyTorch's.
    sigma = _host_tensor(model, math.sqrt(float(1.0 - model.alphas_cumprod[timestep])))
    x0 = (x_t - sigma * epsilon) / alpha_bar.sqrt()
    return x0 / _host_tensor(model, _scale(model, timestep)) if model.use_scale else x0


class DDIMSchedule:
    """One DDIM schedule of a model, with the host's order of operations, so that results agree bit for bit.

    Args:
        model: the host's model; `num_timesteps`, `alphas_cumprod`, `use_scale` and `scale_arr` are read.
        num_inference_steps: S; errors as `ddim_timesteps`.
        eta: share of the noise that is fresh in each step, in [0, 1].
    """

    def __init__(self, model: Any, num_inference_steps: int, eta: float):
        self._model, self._eta = model, eta
        self._values = ddim_timesteps(int(model.num_timesteps), num_inference_steps).tolist()

    def step(self, x0: Tensor, epsilon: Tensor, timestep: int, generator: torch.Generator | None = None) -> Tensor:
        """The latents one DDIM step below `timestep`; below the last one, those of timestep 0 (the host's rule).

        Raises:
            ValueError: eta is above 0 and there is no generator to draw the fresh noise from.
        """
        model, index = self._model, self._values.index(timestep)
        previous = self._values[index - 1] if index else 0
        bar, bar_prev = float(model.alphas_cumprod[timestep]), float(model.alphas_cumprod[previous])
        # In double, but for the reciprocal: so the host's mix of arrays and float32 tensors works out.
        inverse = float((1.0 - model.alphas_cumprod[timestep]).reciprocal())
        share = self._eta * math.sqrt((1 - bar_prev) * inverse * (1 - bar / bar_prev))
        a_prev, sigma = _host_tensor(model, bar_prev), _host_tensor(model, share)
        signal = a_prev.sqrt()
        if model.use_scale:
            signal = signal * _host_tensor(model, _scale(model, previous))
        x_t = signal * x0 + (1.0 - a_prev - sigma**2).sqrt() * epsilon
        if self._eta == 0:
            return x_t
        if generator is None:
            raise ValueError("eta is above 0: pass a generator to draw the fresh noise of each step from")
        fresh = torch.randn(x0.shape, generator=generator, device=generator.device)
        return x_t + sigma * fresh.to(x0)
