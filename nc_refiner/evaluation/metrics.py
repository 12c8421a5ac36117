"""Per-frame metrics over clips `(F, 3, H, W)`, RGB in [0, 1]; each returns `(F,)` float64.

Pure functions: average over frames for a clip, over clips for a set. Pixels are worked on in float32 (float64 where
they come as that), sums are kept in float64. A `PreparedPair` may stand for reference and output.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..frequency import LowPass
from .prepared import Prepared, PreparedPair, prepared, prepared_pair

__all__ = ["mse", "mse_low", "psnr", "spatial_frequency", "ssim"]

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def mse(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Mean squared error over RGB pixels; 0 for equal frames, at most 1. ValueError on mismatch or NaN.

    >>> mse(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)).item()
    0.25
    """
    return prepared_pair(reference, output).squared_error


def mse_low(reference: Tensor | PreparedPair, output: Tensor | None = None, cutoff: float = 0.5) -> Tensor:
    """Mean squared error of the part below `cutoff` (ν, fraction of Nyquist; the paper's MSE_low has ν = 0.5)."""
    difference = prepared_pair(reference, output).difference
    return LowPass(difference.shape[-2], difference.shape[-1], cutoff).mean_square(difference).mean(dim=1)


def psnr(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1; infinite for equal frames."""
    return -10 * mse(reference, output).log10()


def ssim(reference: Tensor | PreparedPair, output: Tensor | None = None) -> Tensor:
    """Structural similarity of BT.601 luma (Wang et al. 2004): Gaussian 11×11, σ = 1.5, data range 1, valid border.

    The window is separable, so that two passes of 11 taps do what one of 121 does.

    Raises:
        ValueError: frames smaller than 11×11.
    """
    pair = prepared_pair(reference, output)
    x, y = pair.reference.luma[:, 0], pair.output.luma[:, 0]
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW}×{SSIM_WINDOW}, found {tuple(x.shape[-2:])}")
    found = []
    for a, b in zip(x, y, strict=True):
        mean_a, mean_b = _windowed(a), _windowed(b)
        product = mean_a * mean_b
        squares = mean_a.square_().add_(mean_b.square_())
        covariance = _windowed(a * b).sub_(product)
        variances = _windowed(a.square().add_(b.square())).sub_(squares)
        above = product.mul_(2).add_(0.01**2).mul_(covariance.mul_(2).add_(0.03**2))
        below = squares.add_(0.01**2).mul_(variances.add_(0.03**2))
        found.append(above.div_(below).mean(dtype=torch.float64))
    return torch.stack(found)


def _windowed(picture: Tensor) -> Tensor:
    """The Gaussian-weighted mean of `(H, W)` around every pixel that the whole window fits around."""
    return _along_rows(_along_rows(picture).T).T


def _along_rows(picture: Tensor) -> Tensor:
    # Shifted sums: for one channel they are many times faster than a convolution call on a CPU.
    edge, weights = SSIM_WINDOW // 2, _gaussian()
    inner = picture.shape[0] - 2 * edge
    total = picture[edge : edge + inner] * weights[edge]
    for shift, weight in enumerate(weights[:edge]):
        total.add_(picture[shift : shift + inner] + picture[2 * edge - shift :][:inner], alpha=weight)
    return total


@lru_cache(maxsize=1)
def _gaussian() -> list[float]:
    axis = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(axis**2) / (2 * SSIM_SIGMA**2))
    return (weights / weights.sum()).tolist()


def spatial_frequency(frames: Tensor | Prepared) -> Tensor:
    """√(RF² + CF²) of luma: root of the mean squared horizontal plus vertical difference (Eskicioglu & Fisher 1995).

    It rewards noise as much as detail: read it beside a fidelity metric and the reference's own value.
    """
    y = prepared("frames", frames).luma
    total = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for axis in (-1, -2):
        if y.shape[axis] > 1:
            total = total + y.diff(dim=axis).square().mean(dim=(1, 2, 3), dtype=torch.float64)
    return total.sqrt()
