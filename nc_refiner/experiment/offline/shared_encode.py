"""An adapter that encodes every clip once for all arms, and remembers where denoising started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...adapters.base import RefinerAdapter, Timesteps
from ...adapters.encode_once import EncodeOnce
from ...calibration import content_loss

__all__ = ["SharedEncode"]


@dataclass(frozen=True, eq=False)
class _Start:
    x_t: Tensor
    timestep: Tensor
    condition: Any
    guidance_scale: float | None
    reference: Tensor


class SharedEncode(EncodeOnce):
    """`EncodeOnce` that also remembers where each run started to denoise, so that arms differ in nothing but what they
    are. `forget` drops everything kept.
    """

    def __init__(self, inner: RefinerAdapter):
        super().__init__(inner)
        self._starts: list[_Start] = []
        self._reference: Tensor | None = None

    def forget(self) -> None:
        super().forget()
        self._starts.clear()
        self._reference = None

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self._reference = super().encode(frames, generator)
        return self._reference

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
        if self._reference is not None:
            start = _Start(x_t.clone(), timesteps.first, condition, guidance_scale, self._reference)
            self._starts.append(start)
        return super().denoise(
            x_t,
            timesteps,
            condition,
            guidance_scale=guidance_scale,
            generator=generator,
            first_x0=first_x0,
            on_step=on_step,
            **more,
        )

    def content_loss(self, cutoff: float) -> float:
        """‖L_ν(x̂₀ − x_r)‖ / ‖x_r‖ where denoising started, averaged over the windows since the last call.

        One evaluation of the network per window, made after the run so that it counts neither as the run's time nor
        as its evaluations; the same quantity for an arm that calibrates and one that does not.
        """
        losses = []
        with torch.no_grad():
            for start in self._starts:
                x0 = self.inner.predict_x0(start.x_t, start.timestep, start.condition, start.guidance_scale)
                losses.append(content_loss(x0, start.reference, cutoff))
        self._starts.clear()
        return sum(losses) / len(losses)
