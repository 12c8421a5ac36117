"""Names → adapters: a decorator for ours, entry points `nc_refiner.adapters` for everyone else's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..naming import did_you_mean
from .base import RefinerAdapter

__all__ = ["available", "create", "diagnose", "parameters", "register", "summary"]

GROUP = "nc_refiner.adapters"
Factory = Callable[..., RefinerAdapter]

_registered: dict[str, Factory] = {}
_BUILT_IN = {
    "diffusers": "nc_refiner.adapters.diffusers.loading",
    "embedded": "nc_refiner.adapters.embedded",
    "modelscope": "nc_refiner.adapters.modelscope.loading",
    "videocrafter": "nc_refiner.adapters.videocrafter",
}


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorator: make an adapter class, or a function that builds one, available under `name`.

    Raises:
        ValueError: the name is taken by another factory, or is empty.
    """
    if not name or name != name.strip().lower():
        raise ValueError(f"adapter names are lower case and not empty, found {name!r}")

    def decorate(factory: Factory) -> Factory:
        if _registered.get(name, factory) is not factory:
            raise ValueError(f"an adapter named {name!r} is already registered; choose another name")
        _registered[name] = factory
        return factory

    return decorate


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def available() -> list[str]:
    """Every name `create` understands, sorted; nothing is imported to find out."""
    return sorted({*_registered, *_BUILT_IN, *_entry_points()})


def create(name: str, **options: Any) -> RefinerAdapter:
    """Build the adapter registered under exactly `name`.

    Raises:
        KeyError: no such name; the message lists what there is.
        TypeError: an option the adapter does not take.
    """
    return _factory(name)(**options)


def _factory(name: str) -> Factory:
    if name not in _registered:
        if name in _BUILT_IN:
            import_module(_BUILT_IN[name])
        else:
            point = _entry_points().get(name)
            if point is None:
                hint = did_you_mean(name, available(), before="; ")
                raise KeyError(f"unknown refiner {name!r}; available: {', '.join(available())}{hint}")
            _registered[name] = point.load()
    return _registered[name]


def parameters(name: str) -> list[str] | None:
    """Options that `create(name, …)` takes; None where that cannot be told: it takes any, or cannot be imported."""
    try:
        found = inspect.signature(_factory(name)).parameters.values()
    except (ImportError, ValueError):
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found]


def summary(name: str) -> str:
    """First line of the documentation of what is registered under `name`; or why it cannot be imported."""
    try:
        text = _factory(name).__doc__ or ""
    except ImportError as error:
        return f"not usable: {error}"
    return text.strip().split("\n", 1)[0]


def diagnose(name: str) -> str:
    """`ready`, or in a line why the adapter `name` cannot be built here without further options."""
    try:
        create(name)
    except TypeError as error:
        return f"needs options: {error}"
    except Exception as error:  # a doctor reports whatever is wrong with a third party's adapter
        return f"not usable: {' '.join(str(error).split()) or type(error).__name__}"
    return "ready"
