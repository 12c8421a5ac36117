"""Options that the `ab` commands share, and their texts turned into values."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

__all__ = ["Alpha", "Control", "Json", "check_alpha", "directions", "numbers", "texts"]

Alpha = Annotated[float | None, typer.Option(help="Level of intervals and tests, in (0, 0.5) (default 0.05).")]
Control = Annotated[str | None, typer.Option(help="Name of the control arm.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def check_alpha(alpha: float | None) -> None:
    """ValueError unless `alpha` is None or in (0, 0.5)."""
    if alpha is not None and not 0 < alpha < 0.5:
        raise ValueError(f"--alpha is {alpha:g}; it must lie in (0, 0.5), usually 0.05")


def texts(option: str, given: list[str] | None) -> dict[str, str]:
    """`["a=1", "b=2"]` → `{"a": "1", "b": "2"}`; ValueError where a text is not NAME=VALUE."""
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise ValueError(f"{option} {text!r}: give NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def numbers(option: str, given: list[str] | None) -> dict[str, float]:
    """As `texts`, with finite numbers above 0."""
    found = {}
    for name, text in texts(option, given).items():
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{option} {name}={text}: the value must be a number above 0")
        found[name] = value
    return found


def directions(given: list[str] | None) -> dict[str, Any]:
    """`["mine=lower"]` → `{"mine": "lower"}`."""
    found = texts("--better", given)
    for metric, way in found.items():
        if way not in ("lower", "higher", "neither"):
            raise ValueError(f"--better {metric}={way}: the direction is lower, higher or neither")
    return found
