"""A sweep's report: Markdown tables of means and of paired differences to SDEdit, with intervals over clips."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from ...evaluation.catalogue import METRICS, metric_named
from ..statistics.fixed_horizon import Estimate, mean_interval, paired_difference, per_clip

__all__ = ["groups_of", "markdown", "metric_label", "picked", "shown", "shown_difference", "table"]

Row = dict[str, Any]
SKIPPED = ("psnr",)  # of the same errors as MSE, and infinite for the input itself


def metric_label(metric: str) -> str:
    """What a table or an axis calls a metric."""
    return metric_named(metric).label


def shown(metric: str, found: Estimate | None, signed: bool = False) -> str:
    """`mean [low, high]` as a table shows it; a dash where there is none."""
    if found is None:
        return "–"

    def number(value: float) -> str:
        return metric_named(metric).shown(value, signed).replace("-", "−")

    if found.low is None or found.high is None:
        return number(found.mean)
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def shown_difference(metric: str, found: Estimate | None) -> str:
    """A paired difference, and on how many clips it is on the better side, where a better side there is."""
    if found is None:
        return "–"
    wins = {-1: found.below, 1: found.above}.get(metric_named(metric).sign)
    return shown(metric, found, signed=True) + ("" if wins is None else f"; {wins} of {found.count}")


def picked(refiner: str, strength: float | None, label: str) -> Callable[[Row], bool]:
    """Whether a row is of this refiner, strength and arm (its seeds and clips all are); the input has no strength."""

    def picks(row: Row) -> bool:
        return row["refiner"] == refiner and row["label"] == label and row["strength"] in (strength, None)

    return picks


def groups_of(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """(refiner, strength) pairs in the table's order."""
    return list(dict.fromkeys((row["refiner"], row["strength"]) for row in rows if row["strength"] is not None))


def labels_of(rows: Sequence[Row], refiner: str, strength: float) -> list[str]:
    """Arms of a group in the table's order, without traces."""
    return list(
        dict.fromkeys(
            row["label"]
            for row in rows
            if row["refiner"] == refiner and row["strength"] in (strength, None) and row["method"] != "trace"
        )
    )


def _columns(rows: Sequence[Row]) -> list[str]:
    known = [*(name for name in METRICS if name not in SKIPPED), "output_loss", "psnr_to_original"]
    return [name for name in known if any(row.get(name) is not None for row in rows)]


def escaped(text: object) -> str:
    """`text` as it stands, whatever it holds: a name of a file is no markup."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain)


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    lines = [header, ["---"] * len(header), *body]
    return ["| " + " | ".join(cells) + " |" for cells in lines] + [""]


def markdown(rows: Sequence[Row], title: str, figures: Sequence[str] = ()) -> str:
    """The report of a table that `run_plan` gave; `figures` are file names beside it."""
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    columns = _columns(rows)
    means = [name for name in columns if name != "psnr_to_original"]
    lines = [f"# {escaped(title)}", ""]
    lines += [f"Clips: {len(clips)} ({', '.join(map(escaped, clips))}). Seeds: {', '.join(map(str, seeds))}.", ""]
    if len(clips) > 1:
        lines += [
            "In brackets: 95 % intervals, BCa bootstrap over clips (a clip's value is the mean of its seeds).",
            "",
        ]
    else:
        lines += ["One clip: there is no interval, and nothing here says how another clip would fare.", ""]
    if "psnr_to_original" in columns:
        means = ["psnr_to_original", *means]
    for refiner, strength in groups_of(rows):
        lines += [f"## {escaped(refiner)}, strength {strength:g}", ""]
        labels = labels_of(rows, refiner, strength)
        body, differences = [], []
        for label in labels:
            picks = picked(refiner, strength, label)
            evaluations = per_clip(rows, "evaluations", picks)
            cost = f"{sum(evaluations.values()) / len(evaluations):.3g}" if evaluations else "–"
            cells = [list(per_clip(rows, name, picks).values()) for name in means]
            found = [
                shown(name, mean_interval(values) if values else None)
                for name, values in zip(means, cells, strict=True)
            ]
            body.append([label, cost, *found])
            if label != "SDEdit":
                base = picked(refiner, strength, "SDEdit")
                pairs = [shown_difference(name, paired_difference(rows, name, picks, base)) for name in means]
                differences.append([label, *pairs])
        names = [metric_label(name) for name in means]
        lines += table(["", "evaluations", *names], body)
        lines += ["Difference to SDEdit, clip by clip, and the clips on the better side:", ""]
        lines += table(["", *names], differences)
        matched = [row for row in rows if row.get("matched_strength") is not None and row["strength"] == strength]
        if matched:
            lines += _matches([row for row in matched if row["refiner"] == refiner])
    for figure in figures:
        lines += [f"![{figure.rpartition('.')[0]}]({figure})", ""]
    return "\n".join(lines)


def _matches(rows: Sequence[Row]) -> list[str]:
    """What strength each clip was matched at, and how well."""
    body = [
        [
            escaped(row["clip"]),
            row["label"],
            str(row["seed"]),
            f"{row['matched_strength']:.3f}",
            f"{row['matched_loss']:.4f}",
            f"{row['target_loss']:.4f}",
        ]
        for row in rows
    ]
    return [
        "Matched strengths:",
        "",
        *table(["clip", "", "seed", "strength", "its content loss", "calibration's"], body),
    ]
