"""Names → restorers: ours, those registered here, and those of entry points `nc_refiner.restorers`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..naming import unknown_name
from .restorer import Restorer

__all__ = ["create_restorer", "register_restorer", "restorers"]

GROUP = "nc_refiner.restorers"
BUILT_IN = {"basicvsr": ("basicvsr", "BasicVSRRestorer"), "x4_upscaler": ("x4_upscaler", "X4Upscaler")}
Factory = Callable[..., Restorer]
_registered: dict[str, Factory] = {}


def register_restorer(name: str) -> Callable[[Factory], Factory]:
    """Decorator: a class or function that builds a `Restorer` becomes available under `name` in sweeps and A/B tests.

    Raises:
        ValueError: the name is empty, or taken by another.
    """
    if not name or name != name.strip().lower():
        raise ValueError(f"names of restorers are lower case and not empty, found {name!r}")

    def decorate(factory: Factory) -> Factory:
        if name in BUILT_IN or _registered.get(name, factory) is not factory:
            raise ValueError(f"a restorer named {name!r} is there already; choose another name")
        _registered[name] = factory
        return factory

    return decorate


def _entry_points() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}


def restorers() -> list[str]:
    """Every name that `create_restorer` knows, sorted."""
    return sorted({*BUILT_IN, *_registered, *_entry_points()})


def create_restorer(name: str, **options: Any) -> Restorer:
    """Build a restorer.

    Raises:
        ValueError: no such name, or an option that it does not take.
        ImportError, OSError: its package or its weights are not here; one line says what to do.
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name]
        factory: Factory = getattr(import_module(f".{module}", __package__), attribute)
    elif name in _registered:
        factory = _registered[name]
    elif name in (points := _entry_points()):
        factory = points[name].load()
    else:
        raise unknown_name("restorer", name, restorers())
    try:
        return factory(**options)
    except TypeError as error:
        raise ValueError(f"restorer {name}: {error}") from error
