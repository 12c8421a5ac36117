"""`nc-refiner refiners`: what can stand behind `--refiner`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..adapters.registry import available, summary
from .options import hanging, option

__all__ = ["refiners"]


def refiners(
    as_json: Annotated[bool, option("One JSON object on standard output.", "--json")] = False,
) -> None:
    """List the registered refiners."""
    found = {name: _summary(name) for name in available()}
    if as_json:
        typer.echo(json.dumps({"refiners": found}, indent=2))
        return
    for name, text in found.items():
        typer.echo(hanging(f"{name:<14} ", text))


def _summary(name: str) -> str:
    try:
        return summary(name)
    except Exception as error:  # one third party's broken adapter must not hide the others
        return f"not usable: {' '.join(str(error).split()) or type(error).__name__}"
