"""What pydantic found wrong, as one line for a person: where, what, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..naming import did_you_mean
from .document import ConfigError, Document, Location

__all__ = ["raise_unknown_key", "validated"]

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "keys with values",
    "string_type": "text",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def validated(model: type[BaseModel], data: dict[str, Any], document: Document, at: Location = ()) -> Any:
    """`model` built from `data`, which stands at `at` in `document`.

    Raises:
        ConfigError: what is wrong first, by its line.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A mistyped key is the cause of the key that is missing, so it is the one to name.
        problem = min(problems, key=lambda found: found["type"] != "extra_forbidden")
        location = tuple(problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise_unknown_key(document, at + location, _fields(model, location[:-1]))
        raise ConfigError(f"{document.where(at + location)}: {_told(model, problem, location, at)}") from None


def raise_unknown_key(document: Document, location: Location, allowed: Iterable[str]) -> None:
    """Raise `ConfigError` for the key at `location`, naming the nearest of `allowed`."""
    key, names = str(location[-1]), sorted(allowed)
    hint = did_you_mean(key, names, after=" ")
    owner = ".".join(str(part) for part in location[:-1])
    place = f" in {owner}" if owner else ""
    raise ConfigError(f"{document.where(location)}: unknown key {key!r}{place}; {hint}allowed: {', '.join(names)}")


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    return list(_owner(model, location).model_fields)


def _owner(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """The model of what stands at `location`, also inside lists, tables and unions."""
    for part in location:
        info = model.model_fields.get(str(part))
        inner = [] if info is None else _models(info.annotation)
        model = inner[0] if inner else model
    return model


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models(part)]


def _told(model: type[BaseModel], problem: Any, location: Location, at: Location) -> str:
    # A union's branches stand in the location under names of pydantic's own.
    parts = [part for part in location if isinstance(part, int) or str(part).isidentifier()]
    name = ".".join(str(part) for part in (*at, *parts)) or "the config"
    kind, found, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    if kind == "missing":
        owner = ".".join(str(part) for part in (*at, *location[:-1]))
        return f"{owner or 'the config'} needs the key {str(location[-1])!r}"
    if kind == "value_error":
        return f"{name}: {context['error']}" if location else str(context["error"])
    if kind in {"literal_error", "enum"}:
        return f"{name} is {_shown(found)}; allowed: {context['expected'].replace(' or ', ', ')}"
    bounds = _range(model, location) or " and ".join(
        f"{_BOUNDS[k]} {_number(context[k])}" for k in _BOUNDS if k in context
    )
    if any(key in context for key in _BOUNDS):
        return f"{name} is {_shown(found)}; it must be {bounds}"
    if kind in {"string_too_short", "too_short", "string_too_long", "too_long"}:
        return f"{name} is {_shown(found)}; {problem['msg'].lower()}"
    wanted = _WANTED.get(kind) or problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{name} is {_shown(found)}; it must be {wanted}{f', {bounds}' if bounds else ''}"


def _range(model: type[BaseModel], location: Location) -> str:
    info = _owner(model, location[:-1]).model_fields.get(str(location[-1])) if location else None
    limits = [] if info is None else [*info.metadata, *_annotated(info.annotation)]
    parts = [
        f"{word} {_number(getattr(limit, key))}"
        for key, word in _BOUNDS.items()
        for limit in limits
        if getattr(limit, key, None) is not None
    ]
    return " and ".join(parts)


def _annotated(annotation: Any) -> list[Any]:
    """Bounds inside a union, such as those of an optional number."""
    found: list[Any] = []
    for part in get_args(annotation):
        if get_origin(part) is Annotated:
            for extra in get_args(part)[1:]:
                found += getattr(extra, "metadata", [])
    return found


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
