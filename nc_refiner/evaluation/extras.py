"""Packages that only some metrics need: a missing one is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needs"]


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
