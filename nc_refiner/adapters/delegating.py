"""`Delegating`: an adapter around another, whose hooks are the other's until a subclass changes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..noise_level import NoiseLevel
from .base import RefinerAdapter, Timesteps

__all__ = ["Delegating"]


class Delegating(RefinerAdapter):
    """Everything is `inner`'s: requirements, hooks, counts.

    Args:
        inner: the adapter that does the work.
    """

    def __init__(self, inner: RefinerAdapter):
        self.inner = inner
        self.name, self.requirements = inner.name, inner.requirements
        self.owns_trajectory, self.can_reuse = inner.owns_trajectory, inner.can_reuse

    @property
    def evaluations(self) -> int:
        """Of the inner network, in this thread."""
        return self.inner.evaluations

    @evaluations.setter
    def evaluations(self, count: int) -> None:
        self.inner.evaluations = count

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def takes_prompt(self) -> bool:
        return self.inner.takes_prompt

    @property
    def can_hold(self) -> bool:
        return self.inner.can_hold

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.inner.encode(frames, generator)

    def condition(self, prompt: str | None = None, negative_prompt: str | None = None, **host: Any) -> Any:
        return self.inner.condition(prompt, negative_prompt, **host)

    def timesteps(self, num_inference_steps: int, strength: float) -> Timesteps:
        return self.inner.timesteps(num_inference_steps, strength)

    def count_steps(self, num_inference_steps: int, strength: float) -> int:
        return self.inner.count_steps(num_inference_steps, strength)

    def strength_at(self, timestep: float) -> float:
        return self.inner.strength_at(timestep)

    def noise_level(self, timestep: Tensor) -> NoiseLevel:
        return self.inner.noise_level(timestep)

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        return self.inner.predict_x0(x_t, timestep, condition, guidance_scale)

    def predict_x0_each(
        self, pieces: Iterable[Tensor], timestep: Tensor, condition: Any, guidance_scale: float | None = None
    ) -> Iterator[Tensor]:
        return self.inner.predict_x0_each(pieces, timestep, condition, guidance_scale)

    def step(
        self, x_t: Tensor, x0: Tensor, timesteps: Timesteps, index: int, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.inner.step(x_t, x0, timesteps, index, generator)

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Any,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        on_step: Callable[[], None] | None = None,
        **more: Any,
    ) -> Tensor:
        """As the inner adapter's; `more` is `hold`, where something is held."""
        return self.inner.denoise(
            x_t,
            timesteps,
            condition,
            guidance_scale=guidance_scale,
            generator=generator,
            first_x0=first_x0,
            on_step=on_step,
            **more,
        )

    def decode(self, latents: Tensor) -> Tensor:
        return self.inner.decode(latents)

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()
