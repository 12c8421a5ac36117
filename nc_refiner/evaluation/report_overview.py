"""Means over several clips, and the worst of them with links to their players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..naming import counted
from .catalogue import METRICS
from .measure import Measurement
from .report_words import way_of, winners

__all__ = ["overview_of"]


def overview_of(found: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement]) -> dict[str, Any] | None:
    """What the template shows of several clips; None where there is one.

    Args:
        found: per folder of outputs and segment: `outputs`, `segment`, `clips`, `metrics`, `worst`.
        measurements: all pairs of the report, in its order.
    """
    whole = [one for one in found if not one["segment"]]
    if not whole:
        return None
    own = {name: _mean([m.reference_metrics.get(name) for m in measurements]) for name in METRICS}
    tables = [
        _table([one for one in found if one["segment"] == segment], own)
        for segment in dict.fromkeys(one["segment"] for one in found)
    ]
    return {"headline": _headline(whole, tables[0]), "tables": tables, "worst": _worst(whole, measurements)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(some: Sequence[Mapping[str, Any]], own: Mapping[str, float | None]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in some[0]["metrics"]:
        metric = METRICS[name]
        cells: list[dict[str, str]] = []
        means: list[float | None] = []
        for one in some:
            value = one["metrics"].get(name)
            means.append(None if value is None else value["mean"])
            between = ""
            if value is not None and value["low"] is not None:
                between = f"{metric.shown(value['low'])} to {metric.shown(value['high'])}"
            cells.append({"mean": metric.shown(means[-1]), "interval": between})
        best = winners(metric, means, own.get(name))
        rows.append({"label": metric.label, "way": way_of(metric), "cells": cells, "best": best})
    counts = " and ".join(dict.fromkeys(counted(one["clips"], "clip") for one in some))
    interval = (
        "; the smaller numbers are 95 % intervals over clips"
        if any(c["interval"] for r in rows for c in r["cells"])
        else ""
    )
    return {
        "segment": some[0]["segment"],
        "columns": [one["outputs"] for one in some],
        "words": f"Means of {counts}{interval}.",
        "rows": rows,
    }


def _headline(whole: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> str:
    clips = counted(max(one["clips"] for one in whole), "clip")
    if len(whole) == 1:
        return f"{whole[0]['outputs']}: {clips}. The worst are the ones to look at first."
    wins = [sum(i in row["best"] for row in table["rows"]) for i in range(len(whole))]
    rows = sum(bool(row["best"]) for row in table["rows"])
    if not rows:
        return f"On average over {clips} no measure tells the outputs apart."
    order = sorted(range(len(whole)), key=lambda i: -wins[i])
    first = [i for i in order if wins[i] == wins[order[0]]]
    names = " and ".join(whole[i]["outputs"] for i in first)
    if len(first) > 1:
        return f"On average over {clips} {names} are each best on {wins[first[0]]} of {counted(rows, 'measure')}."
    rest = ", ".join(f"{whole[i]['outputs']} on {wins[i]}" for i in order[1:])
    return f"On average over {clips} {names} is best on {wins[first[0]]} of {counted(rows, 'measure')}; {rest}."


def _worst(whole: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Per folder of outputs its worst clips by the first measure that has a better side, with the id of their place."""
    references = list(dict.fromkeys(m.reference for m in measurements))
    lines = []
    for one in whole:
        for name, rows in list(one["worst"].items())[:1]:
            clips = []
            for row in rows:
                same = (
                    m
                    for m in measurements
                    if m.output.name == row["clip"] and m.output.is_relative_to(Path(one["outputs"]))
                )
                match = next(same, None)
                place = "" if match is None else f"group-{references.index(match.reference)}"
                clips.append({"name": row["clip"], "value": METRICS[name].shown(row["value"]), "id": place})
            lines.append({"words": f"{one['outputs']} is worst by {METRICS[name].label} on", "clips": clips})
    return lines
