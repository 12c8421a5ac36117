"""How the latents a pipeline noised are arranged when they reach its scheduler: found by value, never by guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Layout", "PackCall", "find_layout"]

_SWAPPED = (0, 2, 1, 3, 4)
"""Frames and channels of five-dimensional latents, exchanged."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A rearrangement that changes no value.

    Attributes:
        name: for messages and traces.
        to_sample: from the layout at `add_noise` to the one at `step`.
        to_noised: the way back.
    """

    name: str
    to_sample: Callable[[Tensor], Tensor]
    to_noised: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PackCall:
    """A recorded call of the pipeline's own packing function: `function(latents, *args, **kwargs)`."""

    latents: Tensor
    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def layout(self, noised: Tensor) -> Layout | None:
        """The packing as a permutation, learnt by packing the numbers 0…n−1; None if it is not one of `noised`."""
        count = self.latents.numel()
        if count != noised.numel():
            return None
        numbers = torch.arange(count, device=noised.device).view(self.latents.shape)
        packed = self.function(numbers, *self.args, **self.kwargs)
        order = packed.flatten()
        if len(order) != count or not torch.equal(order.sort().values, numbers.flatten()):
            return None
        # The pipeline may rearrange between noising and packing (Qwen exchanges frames and channels).
        if self.latents.ndim == noised.ndim == 5 and self.latents.shape != noised.shape:
            numbers = numbers.permute(_SWAPPED)
        if numbers.shape != noised.shape:
            return None
        # order[k] is the place, among the latents as packed, of the k-th packed value.
        places = torch.empty(count, dtype=torch.long, device=noised.device)
        places[numbers.flatten()] = torch.arange(count, device=noised.device)
        source = places[order]
        packed_shape, noised_shape = packed.shape, noised.shape

        def to_sample(x: Tensor) -> Tensor:
            return x.flatten()[source].view(packed_shape)

        def to_noised(x: Tensor) -> Tensor:
            out = torch.empty(count, dtype=x.dtype, device=x.device)
            out[source] = x.flatten()
            return out.view(noised_shape)

        return Layout("packed", to_sample, to_noised)


def _same(x: Tensor) -> Tensor:
    return x


def _swap(x: Tensor) -> Tensor:
    return x.permute(_SWAPPED)


def find_layout(noised: Tensor, sample: Tensor, packs: list[PackCall]) -> Layout | None:
    """The rearrangement T with `T(noised) == sample`, bit for bit (after a cast to `sample.dtype`), or None.

    Shapes alone can be ambiguous (as many frames as channels), so values decide.

    Args:
        noised: latents as `add_noise` returned them.
        sample: latents as `step` received them.
        packs: calls of the pipeline's packing function seen in between.
    """
    candidates = [Layout("identity", _same, _same)]
    if noised.ndim == 5:
        candidates.append(Layout("frames and channels exchanged", _swap, _swap))
    candidates.extend(layout for layout in (call.layout(noised) for call in packs) if layout is not None)
    for layout in candidates:
        arranged = layout.to_sample(noised)
        if arranged.shape == sample.shape and torch.equal(arranged.to(sample.dtype), sample):
            return layout
    return None
