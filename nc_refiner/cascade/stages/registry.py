"""Names → stages: a decorator for ours, entry points `nc_refiner.stages` for everyone else's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from .base import KINDS, Kind, Stage

__all__ = ["BUILT_IN", "available_stages", "register_stage", "stage_class"]

GROUP = "nc_refiner.stages"
BUILT_IN: dict[Kind, dict[str, str]] = {
    "base": {
        "command": "command",
        "diffusers": "text_to_video",
        "embedded": "embedded",
        "file": "file",
        "modelscope": "modelscope",
        "modelscope_image": "modelscope",
    },
    "interpolation": {"blend": "blend", "flow": "flow", "rife": "rife"},
    "refiner": {"ab": "ab", "nc": "refine", "sdedit": "refine"},
}
"""Kind → name → module of this package."""

_registered: dict[tuple[str, str], type[Stage]] = {}
AnyStage = TypeVar("AnyStage", bound=type[Stage])


def register_stage(kind: Kind, name: str) -> Callable[[AnyStage], AnyStage]:
    """Decorator: make a stage class available as `type: name` under `kind`.

    An entry point in the group `nc_refiner.stages`, named `kind.name`, may point at such a class instead.

    Raises:
        ValueError: no such kind, or the name is taken, reserved or not lower case.
    """
    if kind not in KINDS:
        raise ValueError(f"a stage is one of {', '.join(KINDS)}; found {kind!r}")
    if not name or name != name.strip().lower() or name == "none":
        raise ValueError(f"stage names are lower case, not empty and not 'none'; found {name!r}")

    def decorate(cls: AnyStage) -> AnyStage:
        if _registered.get((kind, name), cls) is not cls:
            raise ValueError(f"a {kind} stage named {name!r} is already registered; choose another name")
        _registered[kind, name] = cls
        return cls

    return decorate


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def available_stages(kind: Kind) -> list[str]:
    """Every name `stage_class` knows for `kind`, sorted; nothing is imported to find out."""
    foreign = (name.partition(".") for name in _entry_points())
    return sorted(
        {*BUILT_IN[kind], *(name for k, name in _registered if k == kind), *(n for k, _, n in foreign if k == kind)}
    )


def stage_class(kind: Kind, name: str) -> type[Stage]:
    """The class registered as exactly `name` under `kind`.

    Raises:
        KeyError: there is none; ask `available_stages` first.
    """
    if (kind, name) not in _registered:
        if name in BUILT_IN[kind]:
            import_module(f"{__package__}.{BUILT_IN[kind][name]}")
        else:
            _registered[kind, name] = _entry_points()[f"{kind}.{name}"].load()
    return _registered[kind, name]
