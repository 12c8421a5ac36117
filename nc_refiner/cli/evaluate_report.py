"""What `nc-refiner evaluate` prints and writes: table, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from ..evaluation.catalogue import METRICS
from ..evaluation.measure import Measurement, alignment_notes, labels
from .evaluate_overview import Overview

__all__ = ["as_csv", "as_json", "print_results"]


def as_json(results: Sequence[Measurement], per_frame: bool, overview: Sequence[Overview] = ()) -> str:
    """`{"results": […]}`, one entry per pair; with several clips also `"overview": […]`."""
    report: dict[str, Any] = {"results": [result.as_dict(per_frame) for result in results]}
    if overview:
        report["overview"] = [one.as_dict() for one in overview]
    return json.dumps(report, indent=2, allow_nan=False)


def as_csv(results: Sequence[Measurement]) -> str:
    """One row per pair: files, metrics, the reference's own values, frames, alignment; an empty cell: not measured."""
    names = list(results[0].metrics)
    own = [name for name in names if METRICS[name].own]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["reference", "output", *names, *(f"reference_{name}" for name in own), "frames", "alignment"])
    for result in results:
        values = [result.metrics[name] for name in names] + [result.reference_metrics.get(name) for name in own]
        cells = ["" if value is None else repr(value) for value in values]
        writer.writerow([result.reference, result.output, *cells, result.alignment.frames, result.alignment.mode])
    return stream.getvalue()


def print_results(results: Sequence[Measurement]) -> None:
    """A table per reference on standard output, and what could not be measured or had to be aligned."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    groups: dict[Any, list[Measurement]] = {}
    for result in results:
        groups.setdefault(result.reference, []).append(result)
    for reference, group in groups.items():
        console.print(f"reference {reference}", soft_wrap=True)
        _print_table(group)
        for note in alignment_notes(group):
            console.print(f"note: {note}", soft_wrap=True)
    reasons = {f"{name}: {reason}": None for result in results for name, reason in result.not_measured.items()}
    for reason in reasons:
        console.print(f"not measured: {reason}", soft_wrap=True)


def _print_table(group: list[Measurement]) -> None:
    """Metrics down, clips across."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    own_values = any(result.reference_metrics for result in group)
    for title in [*(["reference"] if own_values else []), *labels(group)]:
        table.add_column(title, justify="right", no_wrap=True)
    for name in group[0].metrics:
        row = [METRICS[name].shown(result.metrics[name]) for result in group]
        if own_values:
            own = group[0].reference_metrics.get(name)
            row.insert(0, "" if own is None else METRICS[name].shown(own))
        table.add_row(METRICS[name].label, *row)
    # A terminal that is narrower still breaks lines; names cut short would not tell outputs apart.
    console = Console(markup=False, highlight=False)
    wide = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    Console(markup=False, highlight=False, width=wide).print(table)
