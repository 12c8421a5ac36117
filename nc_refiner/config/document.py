"""YAML read safely, with the line of every key, so that a mistake can be pointed at."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..files import FileError, read_text

__all__ = ["ConfigError", "Document", "parse_yaml", "read_document"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
_STANDARD = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_STANDARD + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}

Location = tuple[str | int, ...]


class ConfigError(ValueError):
    """A config that cannot be used; the message is one line that says where, what, and what is allowed."""


@dataclass
class Document:
    """A config as plain data, and where each part of it stands.

    Attributes:
        name: what the file is called in messages.
        data: nested dicts, lists and scalars.
        places: location → line number, or the text of the `--set` that put it there.
    """

    name: str
    data: dict[str, Any]
    places: dict[Location, int | str] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """`FILE:LINE` of the nearest known part that contains `location`, or the option it came from."""
        for end in range(len(location), -1, -1):
            place = self.places.get(location[:end])
            if isinstance(place, int):
                return f"{self.name}:{place}"
            if place is not None:
                return place
        return self.name


def read_document(path: str | os.PathLike[str]) -> Document:
    """Read the YAML file at `path`.

    Raises:
        ConfigError: missing, unreadable, larger than 1 MiB, not UTF-8, not YAML, not a mapping, a key given twice,
            aliases, tags beyond plain data, or nesting deeper than 16.
    """
    path = Path(path)
    try:
        text = read_text(path, MAX_BYTES, "a YAML file")
    except FileError as error:
        raise ConfigError(str(error)) from None
    data, places = parse_yaml(text, str(path))
    if data is None:
        raise ConfigError(f"{path} is empty; it holds keys with values")
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {_kind(data)}; needed: keys with values")
    return Document(str(path), data, places)


def parse_yaml(text: str, name: str) -> tuple[Any, dict[Location, int | str]]:
    """Plain data and the line of every key and item; errors as `read_document`, naming `name`."""
    loader = None
    try:
        _check_events(text, name)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        places: dict[Location, int | str] = {}
        return (None if node is None else _build(loader, node, (), places, name)), places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(error.problem or error.context or "it is not YAML").split())
        raise ConfigError(f"{name}{line}: not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_events(text: str, name: str) -> None:
    """Refuse what could grow or run, before anything is built from it."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{name}:{line}: anchors and aliases (&, *) are not used here; write the value out")
        tag = getattr(event, "tag", None)
        if tag and tag != "!" and tag not in _PLAIN_TAGS:
            raise ConfigError(f"{name}:{line}: the tag {tag} is not allowed; only plain values are read")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError(f"{name}:{line}: a second document starts here; one file holds one config")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{name}:{line}: nested deeper than {MAX_DEPTH} levels")


def _build(loader: yaml.SafeLoader, node: yaml.Node, at: Location, places: dict[Location, int | str], name: str) -> Any:
    places.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_STANDARD}merge":
                raise ConfigError(f"{name}:{line}: '<<' (merging) is not used here; write the keys out")
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise ConfigError(f"{name}:{line}: keys are names, found {key if key is not None else 'a structure'!r}")
            here = (*at, key)
            if key in found:
                raise ConfigError(f"{name}:{line}: {key!r} is given twice (first in line {places[here]})")
            places[here] = line
            found[key] = _build(loader, value_node, here, places, name)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*at, index), places, name) for index, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError) as error:  # a date such as 2024-99-99, a number too long to convert
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: {node.value[:60]!r} cannot be read ({error})") from None


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "text" if isinstance(value, str) else type(value).__name__
