"""`--set key=value`: single values of a config changed from the command line."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .document import ConfigError, Document, parse_yaml

__all__ = ["apply_overrides"]


def apply_overrides(document: Document, overrides: list[str], sections: Collection[str] = ()) -> None:
    """Apply texts such as `seed=3`, `refiner=sdedit` or `refiner.iterations=1` to `document`, in order.

    The value is read as YAML. One of `sections` in its short form becomes the long one where a key of it is
    set.

    Raises:
        ConfigError: no `=`, an empty key, a value that is not YAML, or a key below something that has none.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        names = tuple(part.strip() for part in key.split("."))
        label = f"--set {text}"
        if not equals or not all(names):
            raise ConfigError(f"{label}: write key=value, for example refiner.iterations=1")
        parsed, _ = parse_yaml(value, label)
        parent = _parent(document, names, label, sections)
        parent[names[-1]] = parsed
        stale = [place for place in document.places if place[: len(names)] == names]
        for place in stale:
            del document.places[place]
        document.places[names] = label


def _parent(document: Document, names: tuple[str, ...], label: str, sections: Collection[str]) -> dict[str, Any]:
    here: dict[str, Any] = document.data
    for depth, name in enumerate(names[:-1]):
        inner = here.setdefault(name, {})
        if depth == 0 and name in sections and isinstance(inner, str):
            inner = here[name] = {"type": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"{label}: {'.'.join(names[: depth + 1])} is {inner!r} and has no keys to set")
        here = inner
    return here
