"""A section whose `type` decides what it may hold: `refiner: nc`, or `refiner: {type: nc, …}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..naming import unknown_name
from .document import ConfigError, Document
from .options import Options
from .problems import raise_unknown_key, validated

__all__ = ["read_section", "section_choices"]


def section_choices(names: Iterable[str], needed: bool = False) -> str:
    """What a section may be, in words."""
    return f"allowed: {', '.join(sorted(names))}{'' if needed else ', none'}"


def read_section(
    document: Document,
    key: str,
    value: Any,
    names: Iterable[str],
    model: Callable[[str], type[Options]],
    needed: bool = False,
) -> Any:
    """The checked options of the section `key`; None for `none`, which `needed` leaves out of what is allowed.

    Args:
        document: for the lines of what is wrong.
        key, value: the section's name, and what it holds.
        names: every `type` there is.
        model: from a type to its options.

    Raises:
        ConfigError: what is wrong, by its line.
    """
    at, names = (key,), list(names)
    if value is None or value == "none":
        return None
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, dict):
        raise ConfigError(f"{document.where(at)}: {key} is {value!r}; {section_choices(names, needed)}")
    if "type" not in value:
        raise ConfigError(f"{document.where(at)}: {key} needs the key 'type'; {section_choices(names, needed)}")
    name = value["type"]
    if name == "none":
        return None
    if not isinstance(name, str) or name not in names:
        known = names if needed else [*names, "none"]
        raise ConfigError(f"{document.where((key, 'type'))}: {unknown_name(f'{key} stage', name, known)}")
    options: Options = validated(model(name), value, document, at)
    try:
        options.check_keys(lambda location, allowed: raise_unknown_key(document, at + location, allowed))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{document.where(at)}: {error}") from None
    return options
