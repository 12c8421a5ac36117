"""`nc_refiner.refining.conformance` under its first name."""

from importlib import import_module
from typing import Any

_home = import_module("nc_refiner.refining.conformance")
__all__ = ["ConformanceError", "ConformanceReport", "check"]  # noqa: F822


def __getattr__(name: str) -> Any:
    return getattr(_home, name)
