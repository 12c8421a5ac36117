"""An adapter that encodes every clip once, however often it is asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import RefinerAdapter
from .delegating import Delegating

__all__ = ["EncodeOnce"]


@dataclass(frozen=True, eq=False)
class _Encoded:
    frames: Tensor
    before: Tensor
    latents: Tensor
    after: Tensor


class EncodeOnce(Delegating):
    """`inner`, with equal inputs encoded once.

    A repeated encode hands back the very latents of the first and leaves the generator where the first left it, so
    that runs differ in nothing but what they are. `forget` drops everything kept.
    """

    def __init__(self, inner: RefinerAdapter):
        super().__init__(inner)
        self._encoded: list[_Encoded] = []

    def forget(self) -> None:
        """Drop every encoded input."""
        self._encoded.clear()

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        before = generator.get_state() if generator is not None else torch.empty(0)
        for known in self._encoded:
            if torch.equal(known.before, before) and torch.equal(known.frames, frames):
                if generator is not None:
                    generator.set_state(known.after)
                return known.latents
        latents = self.inner.encode(frames, generator)
        after = generator.get_state() if generator is not None else torch.empty(0)
        self._encoded.append(_Encoded(frames.clone(), before, latents, after))
        return latents
