"""Which part of what a sampler gets is calibrated, and with which α and σ the sampler mixes it with noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nc_refiner.noise_level import NoiseLevel

__all__ = ["Part", "level_of", "picture_part"]


@dataclass(frozen=True)
class Part:
    """The picture or video within a sampler's tensor.

    Newer versions of ComfyUI lay the latents of a video and of its sound one behind the other in a tensor `(B, 1, n)`.

    Attributes:
        shape: of the part, `(B, C, H, W)` or `(B, C, F, H, W)`.
        start: where it begins in the last axis of the packed tensor; None where the tensor is the part itself.
    """

    shape: tuple[int, ...]
    start: int | None = None

    def of(self, whole: Tensor) -> Tensor:
        """The part of a tensor as the sampler has it."""
        if self.start is None:
            return whole
        length = math.prod(self.shape[1:])
        return whole[..., self.start : self.start + length].reshape(self.shape)

    def put(self, whole: Tensor, part: Tensor) -> Tensor:
        """A copy of `whole` with `part` in its place."""
        if self.start is None:
            return part
        length = math.prod(self.shape[1:])
        filled = whole.clone()
        filled[..., self.start : self.start + length] = part.reshape(self.shape[0], 1, length)
        return filled


def picture_part(latent: Tensor, shapes: Sequence[Sequence[int]] | None) -> Part | None:
    """The part of `latent` that has a height and a width; None where nothing has (sound alone).

    Args:
        latent: as the sampler gets it.
        shapes: of the parts in a packed tensor, in their order; None where nothing is packed.
    """
    if latent.ndim >= 4:
        return Part(tuple(latent.shape))
    if latent.ndim != 3 or not shapes or sum(math.prod(shape[1:]) for shape in shapes) != latent.shape[-1]:
        return None
    starts = [sum(math.prod(shape[1:]) for shape in shapes[:index]) for index in range(len(shapes))]
    parts = [Part((latent.shape[0], *shape[1:]), start) for shape, start in zip(shapes, starts, strict=True)]
    # Sound has four axes too, as a picture does: beside a video it is left alone.
    videos = [part for part in parts if len(part.shape) == 5]
    pictures = [part for part in parts[:1] if len(part.shape) == 4]
    return next(iter(videos or pictures), None)


def level_of(
    noise_scaling: Callable[..., Tensor], sigma: Tensor, like: Tensor, part: Part, max_denoise: bool
) -> NoiseLevel | None:
    """α and σ of the part's start `α · latent + σ · noise`, found by asking the model's own rule about ones and zeros.

    None where they are not the same throughout the part (a model that noises its frames unequally).
    """
    found = []
    for noise, latent in ((0.0, 1.0), (1.0, 0.0)):
        given = (torch.full_like(like, value, dtype=torch.float32) for value in (noise, latent))
        answer = part.of(noise_scaling(sigma, *given, max_denoise))
        low, high = float(answer.min()), float(answer.max())
        if high - low > 1e-5 * max(1.0, abs(high)):
            return None
        found.append(high)
    return NoiseLevel(*found)
