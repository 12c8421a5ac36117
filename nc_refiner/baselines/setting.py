"""One window of latents, ready to be denoised: what every baseline starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter, Timesteps
from ..noise_level import NoiseLevel
from ..refining.fit import Fit, fit
from ..refining.windows import frame_noise, window_generator

__all__ = ["Encoded", "Setting", "encoded"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A window's latents.

    Attributes:
        reference: x_r.
        how: how the frames were fitted to the adapter; undone after decoding.
        generator_state: of the window's generator after encoding.
        drew: whether encoding drew random numbers, so that another seed needs another encoding.
    """

    reference: Tensor
    how: Fit
    generator_state: Tensor
    drew: bool


def encoded(adapter: RefinerAdapter, frames: Tensor, seed: int, first: int = 0) -> Encoded:
    """Encode frames `(F, 3, H, W)` in [0, 1], whose first has the absolute number `first`, as a refinement does."""
    fitted, how = fit(frames, adapter.requirements)
    generator = window_generator(seed, first)
    before = generator.get_state()
    with torch.no_grad():
        reference = adapter.encode(fitted, generator)
    after = generator.get_state()
    return Encoded(reference, how, after, not torch.equal(before, after))


@dataclass(frozen=True, eq=False)
class Setting:
    """A window under one seed and strength; bit for bit what `CalibratedRefiner` would start from.

    Attributes:
        adapter: the host.
        reference: x_r `(B, C, F, H, W)`.
        noise: e, shaped as `reference`.
        timesteps: the steps to run.
        condition: from `adapter.condition`.
        guidance_scale: None is the host's own.
        generator_state: of the generator that `denoise` draws from.
    """

    adapter: RefinerAdapter
    reference: Tensor
    noise: Tensor
    timesteps: Timesteps
    condition: Any
    guidance_scale: float | None
    generator_state: Tensor

    @classmethod
    def of(
        cls,
        adapter: RefinerAdapter,
        latents: Encoded,
        timesteps: Timesteps,
        condition: Any,
        seed: int,
        first: int = 0,
        guidance_scale: float | None = None,
    ) -> Setting:
        """The setting of an encoded window; `first` is the absolute number of its first frame."""
        reference = latents.reference
        noise = frame_noise(tuple(reference.shape), seed, first, reference.device).to(reference.dtype)
        state = latents.generator_state if latents.drew else window_generator(seed, first).get_state()
        return cls(adapter, reference, noise, timesteps, condition, guidance_scale, state)

    @property
    def level(self) -> NoiseLevel:
        """α and σ at the initial timestep."""
        return self.adapter.noise_level(self.timesteps.first)

    @property
    def x_t(self) -> Tensor:
        """SDEdit's start: α x_r + σ e."""
        return self.level.add_noise(self.reference, self.noise)

    def generator(self) -> torch.Generator:
        """A fresh generator in the state in which every trajectory of this setting starts."""
        generator = torch.Generator()
        generator.set_state(self.generator_state)
        return generator

    def predict_x0(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """x̂₀ under this setting's condition and guidance."""
        with torch.no_grad():
            return self.adapter.predict_x0(x_t, timestep, self.condition, self.guidance_scale)

    def denoise(self, x_t: Tensor, first_x0: Tensor | None = None) -> Tensor:
        """Run every step from `x_t`; `first_x0` is the first prediction where it is known already."""
        with torch.no_grad():
            return self.adapter.denoise(
                x_t,
                self.timesteps,
                self.condition,
                guidance_scale=self.guidance_scale,
                generator=self.generator(),
                first_x0=first_x0,
            )

    def at(self, timesteps: Timesteps) -> Setting:
        """The same window, noise and condition over other steps."""
        return replace(self, timesteps=timesteps)

    def needs_own_loop(self, method: str) -> None:
        """ValueError where the host runs whole trajectories, so that nothing can be done between its steps."""
        if self.adapter.owns_trajectory:
            raise ValueError(
                f"{method} changes the latents between steps, and {self.adapter.name} runs its own solver; "
                "use an adapter whose loop is run here, such as embedded"
            )
