"""`EmbeddedRefiner`: the adapter around the shipped model. Latents are pixels, as they lie in the picture."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...noise_level import NoiseLevel
from ..base import RefinerAdapter, Requirements, Timesteps
from ..registry import register
from ..runtime import default_device
from .model import PIXEL_GAIN
from .weights import DEFAULT_WEIGHTS, load_network

__all__ = ["EmbeddedRefiner"]

NUM_TRAIN_TIMESTEPS = 1000
DEFAULT_STRENGTH, DEFAULT_STEPS, DEFAULT_CUTOFF = 0.4, 20, 0.45
"""Chosen on clips that no evaluation uses; MODEL_CARD.md says how."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _phase(timestep: float) -> float:
    """Cosine schedule: α = cos(π/2 · phase), σ = sin(π/2 · phase); strictly inside (0, 1)."""
    return (timestep + 0.5) / NUM_TRAIN_TIMESTEPS


@register("embedded")
class EmbeddedRefiner(RefinerAdapter):
    """The default refiner: unconditional, predicts x₀, cosine schedule of 1000 timesteps, DDIM steps (η = 0).

    Latents are pixels, `4·pixel − 2`: a spatial frequency of the latents is one of the picture, so that `cutoff` means
    what it means in the paper. (Packed into planes for the network's sake, they would have no such frequencies.)

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
        self._device = torch.device(device or default_device())
        self._dtype = DTYPES[name]
        self._weights = Path(weights) if weights is not None else DEFAULT_WEIGHTS
        self.network = load_network(self._weights).to(self._device, self._dtype)
        if self._device.type == "cpu":
            # As its convolutions run fastest there; elsewhere it was not measured.
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        multiple = self.network.config.stride
        self.requirements = Requirements(
            min_frames=1,
            max_frames=32,
            size_multiple=(multiple, multiple),
            default_strength=DEFAULT_STRENGTH,
            default_steps=DEFAULT_STEPS,
            default_cutoff=DEFAULT_CUTOFF,
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
        """Frames `(F, 3, H, W)` in [0, 1] → `(1, 3, F, H, W)` float32; lossless, uses no randomness."""
        pixels = frames.to(self._device, torch.float32).transpose(0, 1)[None]
        return (pixels / PIXEL_GAIN - 0.5 / PIXEL_GAIN).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """`(1, 3, F, H, W)` → frames `(F, 3, H, W)`, clamped to [0, 1], on the CPU."""
        pixels = latents[0].transpose(0, 1) * PIXEL_GAIN + 0.5
        return pixels.clamp(0, 1).contiguous().cpu()

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

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        self.evaluations += 1
        phase = torch.full((len(x_t),), _phase(float(timestep)), device=self._device)
        with torch.no_grad():
            return self.network(x_t.to(self._dtype), phase).to(x_t.dtype)

    def predict_v(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """`v = α·ε − σ·x₀` as the network's estimate implies it, `(α·x_t − x̂₀) / σ`; for solvers that want v."""
        level = self.noise_level(timestep)
        return (level.alpha * x_t - self.predict_x0(x_t, timestep, None)) / level.sigma

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
            "latents": "pixels",
        }
