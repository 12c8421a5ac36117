"""What the report's template and its players are given: words, tables, plots, maps of change as plain values."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .catalogue import METRICS
from .measure import Measurement, alignment_notes, labels
from .plots import SERIES, plot
from .report_words import summary, way_of, winners

__all__ = ["groups_of"]

Entry = tuple[Measurement, Tensor, tuple[str | None, str | None]]


def groups_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One group per reference, in the order in which they came."""
    grouped: dict[Any, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry[0].reference, []).append(entry)
    return [_group(number, group) for number, group in enumerate(grouped.values())]


def _group(number: int, group: list[Entry]) -> dict[str, Any]:
    measurements = [entry[0] for entry in group]
    titles = labels(measurements)
    names = list(measurements[0].metrics)
    rows = []
    for name in names:
        metric = METRICS[name]
        values = [m.metrics[name] for m in measurements]
        own = measurements[0].reference_metrics.get(name)
        rows.append(
            {
                "metric": metric,
                "way": way_of(metric),
                "reference": metric.shown(own) if metric.own else "",
                "values": [metric.shown(value) for value in values],
                "best": winners(metric, values, own),
            }
        )
    plots = {
        name: plot(name, {label: m.per_frame.get(name, []) for label, m in zip(titles, measurements, strict=True)})
        for name in names
    }
    scale = max(float(entry[1].max()) for entry in group)
    reference = measurements[0].reference.name
    series = [i % SERIES for i in range(len(titles))]
    outputs = [(i, label, series[i]) for i, label in enumerate(titles)]
    return {
        "id": f"group-{number}",
        "reference": reference,
        "labels": titles,
        "series": series,
        "outputs": outputs,
        "lefts": [(-1, "reference", None), *(outputs if len(outputs) > 1 else [])],
        "summary": summary(reference, titles, measurements),
        "names": names,
        "rows": rows,
        "has_own": any(METRICS[name].own for name in names),
        "plots": [(METRICS[name], picture) for name, picture in plots.items() if picture],
        "notes": alignment_notes(measurements),
        "not_measured": list(
            dict.fromkeys(f"{name}: {why}" for m in measurements for name, why in m.not_measured.items())
        ),
        "player": {
            "left": -1,
            "right": 0,
            "reference": "reference",
            "scale": scale,
            "clips": [_clip(label, entry, scale) for label, entry in zip(titles, group, strict=True)],
        },
    }


def _clip(label: str, entry: Entry, scale: float) -> dict[str, Any]:
    measurement, drift, (reference, output) = entry
    levels = (drift / scale * 255).round().byte() if scale > 0 else drift.byte()
    bins, rows, columns = drift.shape
    return {
        "label": label,
        "frames": measurement.alignment.frames,
        "fps": measurement.alignment.output_fps,
        "size": list(measurement.alignment.output_size),
        "reference": reference,
        "video": output,
        "drift": {
            "bins": bins,
            "rows": rows,
            "columns": columns,
            "levels": base64.b64encode(levels.contiguous().numpy().tobytes()).decode("ascii"),
            "overall": [round(float(value), 6) for value in drift.square().mean(dim=(1, 2)).sqrt()],
        },
    }
