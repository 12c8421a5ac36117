"""Sweeps: refiner × N × ν × strength × seeds over a folder of clips, as one table and one report."""

from .arms import Arm
from .bench import Bench
from .clips import SweepClip, load_clips
from .config import SweepConfig, SweepPlan, load_config
from .run import run_plan
from .statistics import Estimate, mean_interval, paired_difference

__all__ = [
    "Arm",
    "Bench",
    "Estimate",
    "SweepClip",
    "SweepConfig",
    "SweepPlan",
    "load_clips",
    "load_config",
    "mean_interval",
    "paired_difference",
    "run_plan",
]
