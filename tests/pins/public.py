"""What a user of the package can see: public names with their parameters, commands with their options.

`python -m tests.pins.public` writes `public.json` anew, after a deliberate change.
"""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main

RECORD = Path(__file__).with_name("public.json")
MODULES = (
    "nc_refiner",
    "nc_refiner.adapters",
    "nc_refiner.adapters.conformance",
    "nc_refiner.adapters.embedded",
    "nc_refiner.assets",
    "nc_refiner.baselines",
    "nc_refiner.cascade",
    "nc_refiner.cascade.cluster",
    "nc_refiner.cascade.stages",
    "nc_refiner.evaluation",
    "nc_refiner.experiment",
    "nc_refiner.experiment.store",
    "nc_refiner.sweeps",
    "nc_refiner.video",
)


def _parameters(value: Any) -> dict[str, str] | None:
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    plain = (str, int, float, bool, tuple, type(None))
    return {
        one.name: f"{one.kind.name}"
        + ("" if one.default is one.empty else f" = {one.default!r}" if isinstance(one.default, plain) else " = …")
        for one in found
    }


def _members(value: Any) -> dict[str, Any] | None:
    if not inspect.isclass(value):
        return None
    names = (name for name in dir(value) if not name.startswith("_"))
    return {
        name: _parameters(getattr(value, name))
        for name in names
        if callable(getattr(value, name))
        and getattr(getattr(value, name), "__module__", "").startswith("nc_refiner")
        and not inspect.isclass(getattr(value, name))
    }


def names() -> dict[str, Any]:
    """Module → public name → its parameters, and those of its public methods."""
    return {
        module: {
            name: {"parameters": _parameters(value), "members": _members(value)}
            for name in import_module(module).__all__
            for value in [getattr(import_module(module), name)]
        }
        for module in MODULES
    }


def commands() -> dict[str, list[str]]:
    """Command → every spelling of its options and arguments."""
    from nc_refiner.cli.main import app

    found: dict[str, list[str]] = {}

    def walk(command: Any, name: str) -> None:
        found[name] = sorted({text for one in command.params for text in (*one.opts, *one.secondary_opts)})
        for part, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {part}")

    walk(typer.main.get_command(app), "nc-refiner")
    return found


def public() -> dict[str, Any]:
    """Everything that is pinned."""
    return {"names": names(), "commands": commands()}


if __name__ == "__main__":
    RECORD.write_text(json.dumps(public(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
