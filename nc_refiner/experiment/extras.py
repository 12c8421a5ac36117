"""Packages of the `experiment` and `study` extras, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load"]


def load(module: str, extra: str = "experiment") -> Any:
    """The module called `module`, a package of `extra`.

    Raises:
        ImportError: it is not installed; says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        purpose = "a preference study" if extra == "study" else "experiments"
        raise ImportError(
            f"{package} is needed for {purpose} and cannot be imported ({error}); "
            f"install it with pip install 'nc_refiner[{extra}]'"
        ) from error
