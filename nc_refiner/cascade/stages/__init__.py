"""What a cascade is made of: one file per stage, found by name through the registry."""

from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import available_stages, register_stage, stage_class

__all__ = [
    "Stage",
    "StageOptions",
    "StageRequest",
    "StageResult",
    "available_stages",
    "register_stage",
    "stage_class",
]
