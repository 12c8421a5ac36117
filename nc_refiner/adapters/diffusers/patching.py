"""Attributes of single instances, replaced for a while and put back exactly. Classes are never touched."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

__all__ = ["MethodHook", "replaced"]

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


class MethodHook:
    """Stands in for a bound method on its instance: same signature, another behaviour.

    A deep copy of the instance made meanwhile (LTX-2 copies its scheduler for the audio) gets the stock method, bound
    to the copy: with a plain function in its place the copy's calls would reach the original.

    Args:
        method: the bound method replaced.
        behaviour: what is called instead, with the method's arguments.
    """

    def __init__(self, method: Callable[..., Any], behaviour: Callable[..., Any]):
        functools.update_wrapper(self, method)  # pipelines inspect signatures
        self._method, self._behaviour = method, behaviour

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._behaviour(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        method = self._method
        owner = getattr(method, "__self__", None)
        if owner is None or id(owner) not in memo:
            return method
        return MethodType(method.__func__, memo[id(owner)])  # type: ignore[attr-defined]
