"""Noise-calibrated SDEdit refiners that keep the content of the video they refine.

>>> import nc_refiner
>>> nc_refiner.NoiseCalibration(iterations=2).cutoff
1.0
"""

from ._version import __version__
from .calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate, calibration_steps
from .clip import VideoClip
from .noise_level import NoiseLevel
from .refinement import RefineSettings
from .refiner import CalibratedRefiner, RefinedClip
from .wrapping import calibrated, unwrap, wrap

__all__ = [
    "Calibrated",
    "CalibratedRefiner",
    "CalibrationTrace",
    "NoiseCalibration",
    "NoiseLevel",
    "RefineSettings",
    "RefinedClip",
    "VideoClip",
    "__version__",
    "calibrate",
    "calibrated",
    "calibration_steps",
    "unwrap",
    "wrap",
]
