"""Attributes of single instances, replaced for a while and put back exactly. Classes are never touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["replaced"]

_ABSENT = object()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let `owner.name` be `value` inside the block.

    Goes through the instance's `__dict__`, past `__setattr__` (a pipeline's rewrites its config, a module's registers
    sub-modules), so that afterwards the instance holds exactly what it held before.
    """
    attributes = vars(owner)
    before = attributes.get(name, _ABSENT)
    attributes[name] = value
    try:
        yield
    finally:
        if before is _ABSENT:
            attributes.pop(name, None)
        else:
            attributes[name] = before
