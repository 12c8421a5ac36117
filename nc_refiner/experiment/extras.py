"""Packages of the `experiment` extra, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load"]


def load(module: str) -> Any:
    """The module called `module`.

    Raises:
        ImportError: it is not installed; says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{package} is needed for experiments and cannot be imported ({error}); "
            "install it with pip install 'nc_refiner[experiment]'"
        ) from error
