"""Whatever a user wrote against the first version goes on working: names, parameters, commands, options, spellings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .public import RECORD, commands, names

PINNED = json.loads(RECORD.read_text(encoding="utf-8"))
CONFIGS = sorted(Path(__file__).with_name("configs").glob("*.yaml"))


def _kept(before: dict[str, str] | None, now: dict[str, str] | None, what: str) -> None:
    if before is None:
        return
    assert now is not None, what
    for name, form in before.items():
        same = now.get(name) == form or ("=" not in form and now.get(name, "").startswith(f"{form} = "))
        assert same, f"{what}: parameter {name} was {form!r}, is {now.get(name)!r}"
    for name in now.keys() - before.keys():
        assert " = " in now[name] or now[name].startswith("VAR"), f"{what}: the new parameter {name} has no default"


@pytest.mark.parametrize("module", PINNED["names"])
def test_public_names_keep_their_parameters(module):
    now = names()[module]
    for name, before in PINNED["names"][module].items():
        assert name in now, f"{module}.{name} is gone"
        _kept(before["parameters"], now[name]["parameters"], f"{module}.{name}")
        for member, parameters in (before["members"] or {}).items():
            assert member in now[name]["members"], f"{module}.{name}.{member} is gone"
            _kept(parameters, now[name]["members"][member], f"{module}.{name}.{member}")


def test_commands_keep_their_options():
    now = commands()
    for command, options in PINNED["commands"].items():
        assert set(options) <= set(now[command]), command


def _check(path: Path) -> Any:
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "base" in keys:
        from nc_refiner.cascade import load_config as cascade

        return cascade(path)
    if "experiment" in keys:
        from nc_refiner.experiment.offline.config import load_config as experiment

        return experiment(path)
    if "iterations" in keys or "refiners" in keys:
        from nc_refiner.sweeps import load_config as sweep

        return sweep(path)
    from nc_refiner.config.refiner import read_refiner

    return read_refiner(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_old_spellings_are_read(path):
    assert _check(path) is not None
