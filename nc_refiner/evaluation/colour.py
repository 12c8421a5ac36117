"""How far colours drifted: per-frame metrics over clips `(F, 3, H, W)`, sRGB in [0, 1]; each returns `(F,)` float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .extras import needs
from .prepared import Prepared, PreparedPair, prepared, prepared_pair

__all__ = ["clipped_fraction", "clipped_shift", "delta_e", "saturation_shift"]

CLIPPED = 0.5 / 255


def _lab(frames: Prepared) -> Any:
    """CIELAB (D65, 2°) of the block means, as an array `(F, rows, columns, 3)`."""
    with needs("scikit-image", "skimage"):
        from skimage.color import rgb2lab

        return rgb2lab(frames.block_means.permute(0, 2, 3, 1).double().cpu().numpy())


def delta_e(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Mean CIEDE2000 colour difference of 16-pixel block means; about 1 is just visible, 0 for equal frames.

    Block means keep it to colour: detail that a refiner adds averages out. Sharma, Wu & Dalal 2005, by scikit-image.

    Args:
        reference, output: `(F, 3, H, W)`, sRGB, in [0, 1], both alike.

    Raises:
        ValueError: shapes that differ, no frame, or NaN.
        ImportError: scikit-image is not installed.
    """
    pair = prepared_pair(reference, output)
    with needs("scikit-image", "skimage"):
        from skimage.color import deltaE_ciede2000

        return torch.from_numpy(deltaE_ciede2000(_lab(pair.reference), _lab(pair.output))).double().mean(dim=(1, 2))


def saturation_shift(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Mean change of HSV saturation (1 − min/max of the channels) of 16-pixel block means, output minus reference: in
    [−1, 1].

    Above 0 the output is more saturated. Block means keep noise out, which would count as saturation in every pixel.
    Black has saturation 0 (Smith 1978). ValueError as `delta_e`.

    >>> grey = torch.full((1, 3, 4, 4), 0.5)
    >>> red = grey * torch.tensor([1.0, 0.5, 0.5])[:, None, None]
    >>> saturation_shift(grey, red).item()
    0.5
    """
    pair = prepared_pair(reference, output)
    before, after = (_saturation(frames.block_means.double()) for frames in (pair.reference, pair.output))
    return (after - before).mean(dim=(1, 2))


def _saturation(frames: Tensor) -> Tensor:
    low, high = frames.amin(dim=1), frames.amax(dim=1)
    return torch.where(high > 0, (high - low) / high.clamp_min(1e-12), 0.0)


def clipped_fraction(frames: Tensor | Prepared) -> Tensor:
    """Share of pixels with a channel at 0 or at 1, to half a step of 255: in [0, 1]. ValueError for NaN or no frame.

    >>> clipped_fraction(torch.ones(1, 3, 4, 4)).item(), clipped_fraction(torch.full((1, 3, 4, 4), 0.5)).item()
    (1.0, 0.0)
    """
    pixels = prepared("frames", frames).frames
    clipped = (pixels < CLIPPED) | (pixels > 1 - CLIPPED)
    return clipped.any(dim=1).double().mean(dim=(1, 2))


def clipped_shift(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Change of `clipped_fraction`, output minus reference: in [−1, 1]. Over-calibration shows here first.

    ValueError as `delta_e`.
    """
    pair = prepared_pair(reference, output)
    return clipped_fraction(pair.output) - clipped_fraction(pair.reference)
