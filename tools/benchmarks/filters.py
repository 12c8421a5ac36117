"""The filter step: one real FFT pair on the difference, against the published two complex pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nc_refiner.frequency import LowPass

from .timing import interleaved, ratio

__all__ = ["measure_filter", "our_excess", "published_excess", "published_low_pass"]


def published_low_pass(x: Tensor, cutoff: float) -> Tensor:
    """The published filter over `(…, H, W)`: complex FFT, fftshift, half-open box, back, real part.

    The box is a mask of `(H, W)` built at every call, as published; a mask as large as `x` would only be slower.
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    row, column = height // 2, width // 2
    up, across = int(row * cutoff), int(column * cutoff)
    mask = torch.zeros(height, width, device=x.device, dtype=x.dtype)
    mask[row - up : row + up, column - across : column + across] = 1
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1)).real


def published_excess(estimate: Tensor, reference: Tensor, cutoff: float) -> Tensor:
    """`L(x̂₀) − L(x_r)` as published: each tensor is filtered by itself."""
    return published_low_pass(estimate, cutoff) - published_low_pass(reference, cutoff)


def our_excess(estimate: Tensor, reference: Tensor, low_pass: LowPass) -> Tensor:
    """`L(x̂₀ − x_r)` as `nc_refiner.calibration` computes it."""
    return low_pass(estimate - reference)


def measure_filter(shape: Sequence[int], cutoffs: Sequence[float], repeats: int) -> list[dict[str, Any]]:
    """Time both formulations on float32 noise of `shape`, interleaved, at the current number of threads.

    Returns:
        One row per cutoff: `cutoff`, `published_ms`, `ours_ms`, `ratio` (clock), `cpu_ratio` (processor time) and
        `max_difference` of the results.
    """
    generator = torch.Generator().manual_seed(0)
    estimate, reference = torch.randn(2, *shape, generator=generator)
    rows = []
    for cutoff in cutoffs:
        low_pass = LowPass(shape[-2], shape[-1], cutoff)
        times = interleaved(
            {
                "published": partial(published_excess, estimate, reference, cutoff),
                "ours": partial(our_excess, estimate, reference, low_pass),
            },
            repeats,
        )
        published, ours = times["published"], times["ours"]
        difference = published_excess(estimate, reference, cutoff) - our_excess(estimate, reference, low_pass)
        rows.append(
            {
                "cutoff": cutoff,
                "published_ms": published.wall_ms,
                "ours_ms": ours.wall_ms,
                "ratio": ratio(published.wall, ours.wall),
                "cpu_ratio": ratio(published.cpu, ours.cpu),
                "max_difference": float(difference.abs().max()),
            }
        )
    return rows
