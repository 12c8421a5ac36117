"""Cascades: base generation → frame interpolation → refiner, from one YAML file."""

from ..config.document import ConfigError
from .config import CascadeConfig, load_config, parse_config
from .manifest import read_manifest
from .runner import CascadeRunner
from .stages import Stage, StageOptions, StageRequest, StageResult, register_stage

__all__ = [
    "CascadeConfig",
    "CascadeRunner",
    "ConfigError",
    "Stage",
    "StageOptions",
    "StageRequest",
    "StageResult",
    "load_config",
    "parse_config",
    "read_manifest",
    "register_stage",
]
