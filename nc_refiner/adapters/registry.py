"""The hosts, one entry each: the adapter's name, how its pipelines are known, where they are wrapped. And names →
adapters: a decorator for ours, entry points `nc_refiner.adapters` for everyone else's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from ..naming import did_you_mean

if TYPE_CHECKING:
    from .base import RefinerAdapter

__all__ = [
    "Host",
    "available",
    "create",
    "diagnose",
    "host_of",
    "parameters",
    "register",
    "register_host",
    "registered",
    "summary",
]

GROUP = "nc_refiner.adapters"
Factory = Callable[..., "RefinerAdapter"]

_registered: dict[str, Factory] = {}


@dataclass(frozen=True)
class Host:
    """One kind of pipeline: as an adapter under its name, and wrapped as the object it is.

    Attributes:
        name: of the adapter, and in messages.
        recognises: tells whether an object is this host's; must not import it.
        module: dotted name of a module with `wrap(pipe, config, **options)`, `unwrap(pipe)` and a context manager
            `calibrated(pipe, config, **options)`; imported when first needed. Empty: its objects cannot be wrapped.
        options: names of the keyword options that `wrap` and `calibrated` of the module take.
        adapter: dotted name of the module that registers the adapter `name` when it is imported; empty where there is
            none, or where an entry point names it.
    """

    name: str
    recognises: Callable[[Any], bool]
    module: str
    options: tuple[str, ...] = ()
    adapter: str = ""


def _has_base(value: Any, package: str, name: str) -> bool:
    return any(
        parent.__name__ == name and parent.__module__.partition(".")[0] == package for parent in type(value).__mro__
    )


def _is_videocrafter(value: Any) -> bool:
    from .recognition import missing_attributes

    return not missing_attributes(value)


_hosts: dict[str, Host] = {
    host.name: host
    for host in (
        Host("embedded", lambda value: False, "", adapter="nc_refiner.adapters.embedded"),
        Host(
            "diffusers",
            lambda value: _has_base(value, "diffusers", "DiffusionPipeline"),
            "nc_refiner.adapters.diffusers.host",
            ("mode",),
            "nc_refiner.adapters.diffusers.loading",
        ),
        Host(
            "modelscope",
            lambda value: _has_base(value, "modelscope", "VideoToVideoPipeline"),
            "nc_refiner.adapters.modelscope.host",
            ("calibrate_at",),
            "nc_refiner.adapters.modelscope.loading",
        ),
        Host(
            "videocrafter",
            _is_videocrafter,
            "nc_refiner.adapters.videocrafter.host",
            adapter="nc_refiner.adapters.videocrafter",
        ),
    )
}


def register_host(host: Host) -> None:
    """Let `wrap` know another kind of pipeline.

    Raises:
        ValueError: the name is taken by another host.
    """
    if _hosts.get(host.name, host) != host:
        raise ValueError(f"a host named {host.name!r} is already registered; choose another name")
    _hosts[host.name] = host


def host_of(pipe: Any) -> Host:
    """The host whose pipeline `pipe` is.

    Raises:
        TypeError: nobody's; the message lists the hosts there are.
    """
    for host in _hosts.values():
        if host.module and host.recognises(pipe):
            return host
    kind = f"{type(pipe).__module__}.{type(pipe).__qualname__}"
    if _has_base(pipe, "diffusers", "ModularPipeline"):
        raise TypeError(
            f"{kind} is a Modular Diffusers pipeline, which is calibrated by a block of its own: "
            "nc_refiner.integrations.diffusers_modular has with_calibration(blocks) for SDXL image-to-image, "
            "wan_video_to_video() and ltx2_second_stage()"
        )
    known = sorted(name for name, host in _hosts.items() if host.module)
    raise TypeError(
        f"{kind} is no pipeline that can be calibrated; known hosts: {', '.join(known)}. "
        "Pass the pipeline object itself, or write an adapter (nc_refiner.adapters.RefinerAdapter)"
    )


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorator: make an adapter class, or a function that builds one, available under `name`.

    The adapter's own `name` must be the same: receipts carry it, and repeating one looks it up here.

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


def _built_in() -> dict[str, str]:
    return {host.name: host.adapter for host in _hosts.values() if host.adapter}


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def registered() -> dict[str, Factory]:
    """What has been registered in this process so far, by name."""
    return dict(_registered)


def available() -> list[str]:
    """Every name `create` understands, sorted; nothing is imported to find out."""
    return sorted({*_registered, *_built_in(), *_entry_points()})


def create(name: str, **options: Any) -> RefinerAdapter:
    """Build the adapter registered under exactly `name`.

    Raises:
        KeyError: no such name; the message lists what there is.
        TypeError: an option the adapter does not take.
    """
    return _factory(name)(**options)


def _factory(name: str) -> Factory:
    if name not in _registered:
        module = _built_in().get(name)
        if module is not None:
            import_module(module)
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
