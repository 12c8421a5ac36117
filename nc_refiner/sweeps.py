"""Sweeps: refiner × N × ν × strength × seeds over a folder of clips, as one table and one report."""

from .experiment.offline.arms import Arm
from .experiment.offline.clips import InputClip as SweepClip
from .experiment.offline.clips import load_clips
from .experiment.offline.shared_latents import Bench
from .experiment.offline.sweep_config import SweepConfig, SweepPlan, load_config
from .experiment.offline.sweeping import run_plan
from .experiment.statistics.fixed_horizon import Estimate, mean_interval, paired_difference

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
