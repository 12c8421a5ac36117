"""Noise-calibrated SDEdit refiners that keep the content of the video they refine.

Names are loaded when first used, so that `import nc_refiner` itself costs nothing.

>>> import nc_refiner
>>> nc_refiner.NoiseCalibration(iterations=2, cutoff=0.5).cutoff
0.5
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .calibration import Calibrated, CalibrationTrace, NoiseCalibration, calibrate, calibration_steps
    from .clip import VideoClip
    from .noise_level import NoiseLevel
    from .refiner import CalibratedRefiner, RefinedClip
    from .refining.fidelity import Fidelity
    from .refining.settings import RefineSettings
    from .wrapping import calibrated, unwrap, wrap

_HOMES = {
    "Calibrated": "calibration",
    "CalibratedRefiner": "refiner",
    "CalibrationTrace": "calibration",
    "Fidelity": "refining.fidelity",
    "NoiseCalibration": "calibration",
    "NoiseLevel": "noise_level",
    "RefineSettings": "refining.settings",
    "RefinedClip": "refiner",
    "VideoClip": "clip",
    "calibrate": "calibration",
    "calibrated": "wrapping",
    "calibration_steps": "calibration",
    "unwrap": "wrapping",
    "wrap": "wrapping",
}

__all__ = [
    "Calibrated",
    "CalibratedRefiner",
    "CalibrationTrace",
    "Fidelity",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
