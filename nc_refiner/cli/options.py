"""Options of the commands: one way to declare them, and those that come from the description of a refiner."""

from __future__ import annotations

import functools
import inspect
import shutil
import textwrap
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from ..config.refiner import SDEditDescription

__all__ = ["CascadeCommand", "PlainCommand", "PlainGroup", "hanging", "option", "with_description"]


class PlainCommand(TyperCommand):
    """A command whose help shows no type beside an option that takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


class CascadeCommand(PlainCommand):
    """A command whose `--ray` may stand without its address: then it is `auto`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        filled = []
        for place, argument in enumerate(args):
            filled.append(argument)
            after = args[place + 1] if place + 1 < len(args) else "-"
            if argument == "--ray" and (after.startswith("-") or after.endswith((".yaml", ".yml"))):
                filled.append("auto")
        return super().parse_args(ctx, filled)


class PlainGroup(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain_flags(super().get_params(ctx))


def _plain_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


def option(text: str, *names: str, **more: Any) -> Any:
    """An option with the help `text`; its default stands in the text where it matters."""
    return typer.Option(*names, help=text, **{"show_default": False, **more})


def hanging(label: str, text: str) -> str:
    """`label` and `text` within the terminal's width (80 where there is none), further lines under the text's first."""
    width = shutil.get_terminal_size().columns
    lines = textwrap.TextWrapper(width, label, " " * len(label), break_long_words=False, break_on_hyphens=False)
    return lines.fill(text)


def with_description(
    model: type[SDEditDescription], *left_out: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: replaces a command's parameter `described` by an option for every field of `model` but `left_out`.

    The command gets `described: dict[str, Any]`: the fields that were given, under the model's names.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        # What the model adds to what it inherits is what it is about.
        ordered = sorted(model.model_fields, key=lambda name: name not in model.__annotations__)
        names = [name for name in ordered if name not in left_out]
        parameters: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            options = [each for name in names for each in _parameters(model, name)]
            parameters += options if parameter.name == "described" else [parameter]

        @functools.wraps(command)
        def described(**given: Any) -> None:
            found = {name: given.pop(name) for name in names}
            for name in names:
                if given.pop(f"no_{name}", False):
                    found[name] = False
            command(**given, described={name: value for name, value in found.items() if value is not None})

        described.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        described.__annotations__ = {one.name: one.annotation for one in parameters}
        return described

    return decorate


def _parameters(model: type[SDEditDescription], name: str) -> list[inspect.Parameter]:
    info = model.model_fields[name]
    text, kind = info.description or "", _plain(info.annotation)
    if kind is bool:
        # Two options, for one with an opposite has a column more, and help of 80 columns would cut the names short.
        dashed = name.replace("_", "-")
        yes: Any = Annotated[bool | None, option(text, f"--{dashed}")]
        no: Any = Annotated[bool, option(f"Not --{dashed}.", f"--no-{dashed}")]
        kinds = ((name, None, yes), (f"no_{name}", False, no))
        return [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for each, default, annotation in kinds
        ]
    if info.default is not None:
        text = f"{text.rstrip('.')} (default {info.default:g})." if kind in (int, float) else text
    more = {"metavar": "<H W>"} if get_origin(kind) is tuple else {}
    annotation: Any = Annotated[Union[kind, None], option(text, **more)]  # noqa: UP007 - `kind` is a value here
    return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)]


def _plain(annotation: Any) -> Any:
    """The type that a command line reads for `annotation`: without bounds, without None, a list of two as a pair."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(parts[0])
    if origin in (Union, UnionType):
        (kind,) = (part for part in parts if part is not NoneType)
        return _plain(kind)
    if origin is Literal:
        return str
    if origin is list:
        return tuple[(_plain(parts[0]),) * 2]  # type: ignore[misc]
    return annotation
