"""Packages that only some parts need, imported when first needed: a missing one is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["load", "needs"]


@contextmanager
def needs(package: str, module: str, extra: str = "evaluation") -> Iterator[None]:
    """Imports inside the block that fail for want of `module` raise ImportError with the command that installs it.

    >>> with needs("no-such-package", "no_such_module"):
    ...     import no_such_module
    Traceback (most recent call last):
    ImportError: no-such-package is not installed; pip install 'nc_refiner[evaluation]'
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != module:
            raise
        raise ImportError(f"{package} is not installed; pip install 'nc_refiner[{extra}]'", name=error.name) from None


def load(module: str, extra: str = "experiment") -> Any:
    """The module called `module`, which a package of `extra` brings; ImportError as `needs`."""
    package = module.partition(".")[0]
    with needs(package, package, extra):
        return import_module(module)
