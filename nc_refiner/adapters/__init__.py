"""Adapters: everything a refiner does that is not calibration, one class per host.

The contract is loaded when first used: which adapters there are can be told without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import available, create, register

if TYPE_CHECKING:
    from .base import RefinerAdapter, Requirements, Timesteps

__all__ = ["RefinerAdapter", "Requirements", "Timesteps", "available", "create", "register"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".base", __name__), name)
