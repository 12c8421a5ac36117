"""Masks from files and ready masks by name. What a mask is stands in `nc_refiner/mask.py`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .opening import open_mask, reopened

__all__ = ["open_mask", "reopened"]


def __getattr__(name: str) -> Any:
    # The names of the ready masks must be read without torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".opening", __name__), name)
