"""Several clips of one or more refiners: means with their intervals, by segment, and the clips at the bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import typer

from ..evaluation.catalogue import METRICS
from ..evaluation.measure import Measurement
from ..naming import counted

__all__ = ["Overview", "Place", "overview", "print_overview"]

WORST = 5
"""Clips listed, and at most half of them: not every clip is the worst."""
FEWEST = 4
"""Clips that an interval is given for: of fewer it says next to nothing (`docs/ab_calibration.md` begins there)."""


@dataclass(frozen=True)
class Place:
    """Where an output belongs: `group`, the folder that was given, and `segment`, its folder in there ('' for none)."""

    group: str
    segment: str


@dataclass(frozen=True)
class Overview:
    """Of the clips of one group and one segment.

    Attributes:
        group: the folder of outputs.
        segment: the folder in it; '' for all clips together.
        clips: how many.
        metrics: name → `mean`, `low`, `high` (95 % interval over clips; None for fewer than `FEWEST`, or where scipy
            is not installed) and `clips` that have it.
        worst: metric → (clip, value), worst first, for metrics with a better side; of all clips together only.
    """

    group: str
    segment: str
    clips: int
    metrics: Mapping[str, Mapping[str, float | None]]
    worst: Mapping[str, Sequence[tuple[str, float]]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        worst = {name: [{"clip": clip, "value": value} for clip, value in rows] for name, rows in self.worst.items()}
        return {
            "outputs": self.group,
            "segment": self.segment or None,
            "clips": self.clips,
            "metrics": {name: dict(values) for name, values in self.metrics.items()},
            "worst": worst,
        }


def overview(results: Sequence[Measurement], places: Mapping[Path, Place]) -> list[Overview]:
    """Per group all clips together, then its segments, where there are several; nothing for a single clip.

    Args:
        results: of all pairs.
        places: output → where it belongs.
    """
    groups: dict[str, list[Measurement]] = {}
    for result in results:
        if result.output in places:
            groups.setdefault(places[result.output].group, []).append(result)
    found = []
    for group, mine in groups.items():
        if len(mine) < 2:
            continue
        found.append(_of(group, "", mine))
        segments: dict[str, list[Measurement]] = {}
        for result in mine:
            segments.setdefault(places[result.output].segment, []).append(result)
        if len(segments) > 1:
            found += [_of(group, segment or ".", part) for segment, part in segments.items()]
    return found


def _of(group: str, segment: str, results: Sequence[Measurement]) -> Overview:
    metrics: dict[str, dict[str, float | None]] = {}
    worst: dict[str, list[tuple[str, float]]] = {}
    for name in results[0].metrics:
        rows = [(r.output.name, value) for r in results if (value := r.metrics[name]) is not None]
        if not rows:
            continue
        values = [value for _, value in rows]
        low, high = _ends(values)
        metrics[name] = {"mean": fmean(values), "low": low, "high": high, "clips": len(rows)}
        sign = METRICS[name].sign
        if sign and not segment:
            worst[name] = sorted(rows, key=_value, reverse=sign < 0)[: min(WORST, len(rows) // 2)]
    return Overview(group, segment, len(results), metrics, worst)


def _value(row: tuple[str, float]) -> float:
    return row[1]


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < FEWEST:
        return None, None
    from ..experiment.statistics.fixed_horizon import mean_interval

    try:
        found = mean_interval(values)
    except ImportError:
        return None, None
    return found.low, found.high


def print_overview(found: Sequence[Overview]) -> None:
    """Means in tables, metrics down; one table for all clips together and one per segment, groups across."""
    for segment in dict.fromkeys(one.segment for one in found):
        _print_means([one for one in found if one.segment == segment])
    for one in found:
        for name, rows in list(one.worst.items())[:1]:
            listed = ", ".join(f"{clip} ({METRICS[name].shown(value)})" for clip, value in rows)
            typer.echo(f"{one.group}: worst by {METRICS[name].label}: {listed}")


def _print_means(found: Sequence[Overview]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    where = f"folder {found[0].segment}: " if found[0].segment else ""
    counts = " and ".join(dict.fromkeys(counted(one.clips, "clip") for one in found))
    interval = ", 95 % interval over clips" if any(one.clips >= FEWEST for one in found) else ""
    typer.echo(f"{where}mean of {counts}{interval}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.group, justify="right", no_wrap=True)
    for name in found[0].metrics:
        shown = METRICS[name].shown
        cells = []
        for one in found:
            value = one.metrics.get(name)
            if value is None:
                cells.append("")
            elif value["low"] is None:
                cells.append(shown(value["mean"]))
            else:
                cells.append(f"{shown(value['mean'])} [{shown(value['low'])}, {shown(value['high'])}]")
        table.add_row(METRICS[name].label, *cells)
    console = Console(markup=False, highlight=False)
    wide = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    Console(markup=False, highlight=False, width=wide).print(table)
