"""Attributes of single instances, replaced for a while and put back exactly; classes are never touched. And turns: one
call at a time for those that share a model."""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

__all__ = ["MethodHook", "copied", "only_here", "replaced", "taking_turns"]

_ABSENT = object()


@dataclass(eq=False)
class _Patched:
    """One attribute of one instance while it is replaced, perhaps by several at once."""

    owner: Any
    before: Any
    values: list[list[Any]] = field(default_factory=list)


_patched: dict[tuple[int, str], _Patched] = {}
_lock = threading.RLock()


def _put(owner: Any, name: str, value: Any) -> None:
    if name == "__class__":
        owner.__class__ = value
    elif value is _ABSENT:
        vars(owner).pop(name, None)
    else:
        vars(owner)[name] = value


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let `owner.name` be `value` inside the block; `name` may be `__class__`.

    Goes through the instance's `__dict__`, past `__setattr__` (a pipeline's rewrites its config, a module's registers
    sub-modules), so that afterwards the instance holds exactly what it held before the first of several blocks, in
    whatever order they end, in whatever threads. While several are open the latest counts. What somebody else put there
    inside the block is taken off with it.
    """
    key, entry = (id(owner), name), [value]
    with _lock:
        before = type(owner) if name == "__class__" else vars(owner).get(name, _ABSENT)
        record = _patched.setdefault(key, _Patched(owner, before))
        record.values.append(entry)
        _put(owner, name, value)
    try:
        yield
    finally:
        with _lock:
            # By identity: two values may be equal.
            record.values[:] = [one for one in record.values if one is not entry]
            if record.values:
                _put(owner, name, record.values[-1][0])
            else:
                _put(owner, name, record.before)
                del _patched[key]


def copied(owner: Any) -> Any:
    """A shallow copy of `owner` as it is outside every `replaced` block, which other threads may just be in."""
    with _lock:
        twin = copy.copy(owner)
        for (_, name), record in list(_patched.items()):
            if record.owner is owner:
                _put(twin, name, record.before)
    return twin


def only_here(behaviour: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is `behaviour` in the thread that made it and `otherwise` in every other one.

    What is patched on a model that others use at the same time must not answer them.
    """
    here = threading.get_ident()

    @functools.wraps(otherwise)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (behaviour if threading.get_ident() == here else otherwise)(*args, **kwargs)

    return chosen


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


_turns: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""A lock for every model that calls have shared, as long as the model lives."""


@contextmanager
def taking_turns(models: Iterable[Any]) -> Iterator[None]:
    """Inside the block no other thread is in such a block with one of `models`; a thread may nest blocks.

    Models are taken in one order everywhere, so that two calls that share several never wait for each other.
    """
    with _lock:
        locks = [_turns.setdefault(model, threading.RLock()) for model in sorted(models, key=id)]
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        yield
