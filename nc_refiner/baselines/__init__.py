"""Rivals: those that keep content by other means, over any adapter whose loop is run here (`owns_trajectory` is False),
and those that restore or upscale, over none."""

from .ilvr import ilvr
from .inversion import invert
from .matched import Match, matched_sdedit
from .refiner import BASELINES, BaselineRefiner
from .renoise import renoised
from .restorer import FunctionRestorer, Restorer, RestoringBaseline
from .restorer_names import create_restorer, register_restorer, restorers
from .setting import Setting, encoded

__all__ = [
    "BASELINES",
    "BaselineRefiner",
    "FunctionRestorer",
    "Match",
    "Restorer",
    "RestoringBaseline",
    "Setting",
    "create_restorer",
    "encoded",
    "ilvr",
    "invert",
    "matched_sdedit",
    "register_restorer",
    "renoised",
    "restorers",
]
