"""`LatentWindows`: an adapter's predictions for a clip longer than it can take, blended in latent space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter, Timesteps
from ..holding import Hold
from .windows import window_starts, window_weights

__all__ = ["LatentWindows"]


class LatentWindows:
    """`predict_x0` and `denoise` of an adapter for whole clips, made of overlapping windows of it.

    Every window predicts its part of the one noisy clip; where windows overlap their x̂₀ are averaged with smooth
    weights before the next step is taken on the whole clip, so that windows never drift apart (MultiDiffusion, Bar-Tal
    et al., ICML 2023, arXiv 2302.08113, along time). An adapter that owns its trajectory denoises each window to the
    end, and the results are averaged.

    Args:
        adapter: one whose requirements declare `latent_windows`.
        count: frames of the clip, ≥ 1.
        window: frames per window, ≥ 1, as many as the adapter takes.
        overlap: frames that neighbours share at least, 0 ≤ overlap < window.
        on_window: called after each window of each prediction or step.

    Raises:
        ValueError: `count`, `window` or `overlap` out of range.
    """

    def __init__(
        self,
        adapter: RefinerAdapter,
        count: int,
        window: int,
        overlap: int,
        on_window: Callable[[], None] | None = None,
    ):
        self.adapter, self.window = adapter, min(window, count)
        self.starts = window_starts(count, self.window, min(overlap, self.window - 1))
        self._weights = window_weights(self.starts, self.window)
        self._on_window = on_window or (lambda: None)

    def predict_x0(self, x_t: Tensor, timestep: Tensor, condition: Any, guidance_scale: float | None = None) -> Tensor:
        """x̂₀ of the whole clip `(1, C, count, H, W)`, as the adapter's own hook."""

        pieces = (x_t[:, :, part].contiguous() for part in self._parts())

        def told() -> Iterator[Tensor]:
            for x0 in self.adapter.predict_x0_each(pieces, timestep, condition, guidance_scale):
                self._on_window()
                yield x0

        return self._blended(x_t, told())

    def denoise(
        self,
        x_t: Tensor,
        timesteps: Timesteps,
        condition: Any,
        *,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        first_x0: Tensor | None = None,
        hold: Hold | None = None,
    ) -> Tensor:
        """Latents of the refined clip `(1, C, count, H, W)`; arguments as the adapter's own hook, for a whole clip."""
        if self.adapter.owns_trajectory:

            def finish(part: slice) -> Tensor:
                held = {} if hold is None else {"hold": hold.part(part)}
                return self.adapter.denoise(
                    x_t[:, :, part].contiguous(),
                    timesteps,
                    condition,
                    guidance_scale=guidance_scale,
                    generator=generator,
                    first_x0=None if first_x0 is None else first_x0[:, :, part].contiguous(),
                    on_step=self._on_window,
                    **held,
                )

            return self._blended(x_t, map(finish, self._parts()))
        for index, timestep in enumerate(timesteps):
            if index == 0 and first_x0 is not None:
                x0 = first_x0
                for _ in self.starts:
                    self._on_window()
            else:
                x0 = self.predict_x0(x_t, timestep, condition, guidance_scale)
            if hold is not None:
                x0 = hold(x0, index, len(timesteps))
            x_t = self.adapter.step(x_t, x0, timesteps, index, generator)
        return x_t

    def _parts(self) -> Iterator[slice]:
        return (slice(start, start + self.window) for start in self.starts)

    def _blended(self, like: Tensor, pieces: Iterable[Tensor]) -> Tensor:
        wide = torch.promote_types(like.dtype, torch.float32)
        total = torch.zeros(like.shape, dtype=wide, device=like.device)
        for part, weight, piece in zip(self._parts(), self._weights, pieces, strict=True):
            total[:, :, part] += piece.to(wide) * weight.to(like.device, wide).view(-1, 1, 1)
        return total.to(like.dtype)
