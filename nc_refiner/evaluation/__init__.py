"""Numbers that say how near an output is to its reference."""

from .colour import clipped_fraction, clipped_shift, delta_e, saturation_shift
from .meters import FidelityMeter
from .metrics import mse, mse_low, psnr, spatial_frequency, ssim
from .temporal import flicker, motion_of, warping_error

__all__ = [
    "FidelityMeter",
    "clipped_fraction",
    "clipped_shift",
    "delta_e",
    "flicker",
    "motion_of",
    "mse",
    "mse_low",
    "psnr",
    "saturation_shift",
    "spatial_frequency",
    "ssim",
    "warping_error",
]
