"""`EmbeddedRefiner`: the adapter around the shipped model. Latents are pixels after 4× space-to-depth."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...noise_level import NoiseLevel, predicted_x0
from ..base import RefinerAdapter, Requirements, Timesteps
from ..registry import register
from .weights import DEFAULT_WEIGHTS, load_network

__all__ = ["EmbeddedRefiner"]

NUM_TRAIN_TIMESTEPS = 1000
PATCH = 4
LATENT_STD = 0.5
"""Pixels in [-1, 1] are divided by this, so that latents have about unit variance."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _phase(timestep: float) -> float:
    """Cosine schedule: α = cos(π/2 · phase), σ = sin(π/2 · phase); strictly inside (0, 1)."""
    return (timestep + 0.5) / NUM_TRAIN_TIMESTEPS


@register("embedded")
class EmbeddedRefiner(RefinerAdapter):
    """The default refiner: unconditional, v-prediction, cosine schedule of 1000 timesteps, DDIM steps (η = 0).

    Args:
        weights: safetensors file; the shipped one by default.
        device: torch device; default is CUDA where there is one, else the CPU.
        dtype: float32 (default), or bfloat16/float16 for the network alone (latents stay float32); a torch dtype or
            its name.

    Raises:
        FileNotFoundError, ValueError: see `load_network`; or another dtype.
    """

    name = "embedded"

    def __init__(
        self,
        weights: Path | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str = torch.float32,
    ):
        name = str(dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise ValueError(f"dtype is {name!r}; allowed: {', '.join(DTYPES)}")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._dtype = DTYPES[name]
        self._weights = Path(weights) if weights is not None else DEFAULT_WEIGHTS
        self.network = load_network(self._weights).to(self._device, self._dtype)
        multiple = PATCH * self.network.config.stride
        self.requirements = Requirements(
            min_frames=1,
            max_frames=32,
            size_multiple=(multiple, multiple),
            default_strength=0.45,
            default_steps=30,
            prompt=False,
            negative_prompt=False,
            guidance=False,
            latent_windows=True,
        )
        self.evaluations = 0

    @property
    def device(self) -> torch.device:
        return self._device

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames `(F, 3, H, W)` in [0, 1] → `(1, 48, F, H/4, W/4)` float32; lossless, uses no randomness."""
        pixels = (2 * frames.to(self._device, torch.float32) - 1) / LATENT_STD
        return F.pixel_unshuffle(pixels, PATCH).transpose(0, 1)[None]

    def decode(self, latents: Tensor) -> Tensor:
        """`(1, 48, F, H/4, W/4)` → frames `(F, 3, H, W)`, clamped to [0, 1], on the CPU."""
        pixels = F.pixel_shuffle(latents[0].transpose(0, 1), PATCH)
        return ((pixels * LATENT_STD + 1) / 2).clamp(0, 1).cpu()

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        """Trailing spacing over 1000; the last `int(num_inference_steps · strength)` steps are run."""
        if not 1 <= num_inference_steps <= NUM_TRAIN_TIMESTEPS:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must lie in 1…{NUM_TRAIN_TIMESTEPS}")
        if not 0 < strength <= 1:
            raise ValueError(f"strength is {strength}; it must lie in (0, 1]")
        kept = min(int(num_inference_steps * strength + 1e-9), num_inference_steps)
        index = torch.arange(num_inference_steps - kept, num_inference_steps, dtype=torch.float64)
        values = (NUM_TRAIN_TIMESTEPS * (1 - index / num_inference_steps)).round().long() - 1
        return Timesteps(values, num_inference_steps, strength)

    def strength_at(self, timestep: float) -> float:
        if not 0 <= timestep < NUM_TRAIN_TIMESTEPS:
            raise ValueError(f"start timestep is {timestep}; it must lie in 0…{NUM_TRAIN_TIMESTEPS - 1}")
        return (timestep + 1) / NUM_TRAIN_TIMESTEPS

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        angle = math.pi / 2 * _phase(float(timestep))
        return NoiseLevel(math.cos(angle), math.sin(angle))

    def predict_v(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """The network's raw output `v = α·ε − σ·x₀` at `x_t`, float32."""
        self.evaluations += 1
        phase = torch.full((len(x_t),), _phase(float(timestep)), device=self._device)
        with torch.no_grad():
            return self.network(x_t.to(self._dtype), phase).to(x_t.dtype)

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        return predicted_x0(self.predict_v(x_t, timestep), x_t, self.noise_level(timestep), "v_prediction")

    def step(
        self, x_t: Tensor, x0: Tensor, timesteps: Timesteps, index: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """DDIM, η = 0: keep the implied noise, lower its level; the last step lands on x̂₀."""
        if index + 1 == len(timesteps):
            return x0
        noise = self.noise_level(timesteps.values[index]).noise_in(x_t, x0)
        return self.noise_level(timesteps.values[index + 1]).add_noise(x0, noise)

    def describe(self) -> dict[str, Any]:
        return {
            "weights": self._weights.name,
            "weights_sha256": hashlib.sha256(self._weights.read_bytes()).hexdigest(),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "dtype": str(self._dtype).removeprefix("torch."),
        }
