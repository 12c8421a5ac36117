"""A mask of ComfyUI on the grid of a sampler's latents."""

from __future__ import annotations

from torch import Tensor

from nc_refiner.mask import Mask, Place

from .latents import Part

__all__ = ["weights_of"]


def weights_of(mask: Mask | None, part: Part) -> Tensor | None:
    """The mask's weights for the pictures or the video of `part`, spreading to its shape; None where there is none.

    A mask has one frame, or as many as there are pictures in the batch; for a video as many as latent frames, or as
    frames of the clip (1 + k · (latent frames − 1), as causal autoencoders fold them).

    Raises:
        ValueError: another number of frames.
    """
    if mask is None:
        return None
    height, width = part.shape[-2:]
    if len(part.shape) == 4:
        frames = 1 if mask.length == 1 else part.shape[0]
        _check(mask, {1, frames})
        return mask.weights(Place((frames, height, width)))[0].transpose(0, 1)
    latent, frames, factor = part.shape[2], part.shape[2], 1
    if mask.length not in (None, 1, latent):
        frames, factor = int(mask.length or 1), 0
        if latent > 1 and (frames - 1) % (latent - 1) == 0:
            factor = (frames - 1) // (latent - 1)
        if factor < 1:
            raise ValueError(f"{mask.name} has {frames} frames for {latent} of the latent; give 1, or the clip's own")
    return mask.weights(Place((latent, height, width), frames, factor=factor))


def _check(mask: Mask, allowed: set[int]) -> None:
    if mask.length is not None and mask.length not in allowed:
        counts = " or ".join(map(str, sorted(allowed)))
        raise ValueError(f"{mask.name} has {mask.length} pictures; needed: {counts}")
