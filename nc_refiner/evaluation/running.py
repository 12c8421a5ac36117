"""Metrics over a stream: blocks of frames go in, clip averages come out, nothing is kept."""

from __future__ import annotations

import math

from torch import Tensor

from . import metrics

__all__ = ["FidelityMeter"]


class FidelityMeter:
    """Running averages of MSE, MSE_low(0.5), SSIM and spatial frequency of an output against a reference.

    PSNR is that of the clip's mean MSE. SSIM is None for frames under 11×11.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._frames = 0

    def add(self, reference: Tensor, output: Tensor) -> None:
        """Take in the next frames, `(n, 3, H, W)` in [0, 1], both alike; ValueError where they are not."""
        values = {
            "mse": metrics.mse(reference, output),
            "mse_low": metrics.mse_low(reference, output),
            "spatial_frequency": metrics.spatial_frequency(output),
        }
        if min(reference.shape[-2:]) >= metrics.SSIM_WINDOW:
            values["ssim"] = metrics.ssim(reference, output)
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.sum())
        self._frames += len(reference)

    def result(self) -> dict[str, float | None]:
        """`mse`, `mse_low`, `ssim`, `psnr` (dB; None for equal clips), `spatial_frequency`: means over frames."""
        if self._frames == 0:
            raise ValueError("no frame was measured")
        mean: dict[str, float | None] = {name: value / self._frames for name, value in self._sums.items()}
        mean.setdefault("ssim", None)
        error = self._sums["mse"] / self._frames
        mean["psnr"] = -10 * math.log10(error) if error > 0 else None
        return mean
