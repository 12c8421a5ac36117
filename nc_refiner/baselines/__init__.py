"""Rivals that keep content by other means, over any adapter whose loop is run here (`owns_trajectory` is False)."""

from .ilvr import ilvr
from .inversion import invert
from .matched import Match, matched_sdedit
from .refiner import BASELINES, BaselineRefiner
from .renoise import renoised
from .setting import Setting, encoded

__all__ = [
    "BASELINES",
    "BaselineRefiner",
    "Match",
    "Setting",
    "encoded",
    "ilvr",
    "invert",
    "matched_sdedit",
    "renoised",
]
