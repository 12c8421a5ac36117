"""A refiner whose model is one line of float64, so that every loop can be computed again in NumPy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nc_refiner.adapters.base import RefinerAdapter, Requirements, Timesteps
from nc_refiner.baselines import Setting, encoded
from nc_refiner.noise_level import NoiseLevel


class TinyAdapter(RefinerAdapter):
    """x̂₀ = tanh(x_t), cosine schedule over [0, 1), DDIM steps (η = 0); latents are pixels times 4, less 2."""

    name = "tiny"
    requirements = Requirements(size_multiple=(1, 1), prompt=False, negative_prompt=False, guidance=False)

    def __init__(self, whole_trajectory: bool = False):
        self.owns_trajectory = whole_trajectory

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (4 * frames.double() - 2).transpose(0, 1)[None]

    def decode(self, latents: Tensor) -> Tensor:
        return ((latents[0].transpose(0, 1) + 2) / 4).clamp(0, 1).float()

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        kept = int(num_inference_steps * strength + 1e-9)
        index = torch.arange(num_inference_steps - kept, num_inference_steps, dtype=torch.float64)
        return Timesteps(0.98 * (1 - index / num_inference_steps), num_inference_steps, strength)

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        angle = math.pi / 2 * float(timestep)
        return NoiseLevel(math.cos(angle), math.sin(angle))

    def predict_x0(
        self, x_t: Tensor, timestep: Tensor, condition: object, guidance_scale: float | None = None
    ) -> Tensor:
        self.evaluations += 1
        return torch.tanh(x_t)

    def step(
        self, x_t: Tensor, x0: Tensor, timesteps: Timesteps, index: int, generator: torch.Generator | None = None
    ) -> Tensor:
        last = index + 1 == len(timesteps)
        below = NoiseLevel(1.0, 0.0) if last else self.noise_level(timesteps.values[index + 1])
        return below.add_noise(x0, self.noise_level(timesteps.values[index]).noise_in(x_t, x0))


def setting_of(adapter: RefinerAdapter, frames: Tensor, steps: int, strength: float, seed: int = 5) -> Setting:
    """A setting over `frames`, as a refinement with that seed would start."""
    latents = encoded(adapter, frames, seed)
    return Setting.of(adapter, latents, adapter.timesteps(steps, strength), adapter.condition(), seed)


@pytest.fixture
def tiny_adapter() -> TinyAdapter:
    return TinyAdapter()


@pytest.fixture
def frames() -> Tensor:
    """Three small frames `(3, 3, 12, 10)`."""
    return torch.rand((3, 3, 12, 10), generator=torch.Generator().manual_seed(2))
