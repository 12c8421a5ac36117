"""Numbers that say how near an output is to its reference."""

from .metrics import mse, mse_low, psnr, spatial_frequency, ssim
from .running import FidelityMeter

__all__ = ["FidelityMeter", "mse", "mse_low", "psnr", "spatial_frequency", "ssim"]
