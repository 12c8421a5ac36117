"""Pictures of a sweep: fidelity against detail, and the content loss iteration by iteration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluation.extras import needs
from ...files import AtomicFile
from ..statistics.fixed_horizon import mean_interval, per_clip
from .markdown import groups_of, labels_of, metric_label, picked

__all__ = ["draw_losses", "draw_tradeoff", "new_figure", "saved"]

Row = dict[str, Any]


def new_figure(**options: Any) -> Any:
    """An empty matplotlib figure that needs no display; ImportError where matplotlib is not installed."""
    with needs("matplotlib", "matplotlib"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG, whole or not at all."""
    with AtomicFile(path) as file:
        figure.savefig(file.temporary, dpi=110, format="png", metadata={"Software": None})
        file.commit()


def draw_tradeoff(
    rows: Sequence[Row], path: Path, x: str = "mse_low", y: str = "spatial_frequency", columns: int = 2
) -> bool:
    """Every arm at its means of `x` and `y` with their intervals, one panel per refiner and strength.

    Returns:
        False, and no file, where the rows lack either metric.
    """
    groups = groups_of(rows)
    if not groups or not all(any(row.get(name) is not None for row in rows) for name in (x, y)):
        return False
    across = min(columns, len(groups))
    down = -(-len(groups) // across)
    figure = new_figure(figsize=(6.4 * across, 3.8 * down))
    for index, (refiner, strength) in enumerate(groups):
        axes = figure.add_subplot(down, across, index + 1)
        for number, label in enumerate(labels_of(rows, refiner, strength)):
            picks = picked(refiner, strength, label)
            values = [list(per_clip(rows, name, picks).values()) for name in (x, y)]
            if not all(values):
                continue
            across_x, along_y = (mean_interval(found) for found in values)
            spread = [
                None
                if found.low is None or found.high is None
                else [[found.mean - found.low], [found.high - found.mean]]
                for found in (across_x, along_y)
            ]
            axes.errorbar(
                across_x.mean, along_y.mean, xerr=spread[0], yerr=spread[1],
                fmt="osD^vP*X<>hpd"[number % 13], color=f"C{number % 10}",
                markersize=5, elinewidth=0.7, capsize=2, label=label,
            )  # fmt: skip
        axes.set_xlabel(metric_label(x).partition(" ×")[0])
        axes.set_ylabel(metric_label(y))
        axes.set_title(f"{refiner}, strength {strength:g}", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    saved(figure, path)
    return True


def draw_losses(rows: Sequence[Row], path: Path) -> bool:
    """Content loss of the estimate after 0…N iterations: mean over clips and its interval, one line per ν and strength.

    Returns:
        False, and no file, where no row has more than one loss.
    """
    series: dict[tuple[str, float, float], dict[str, list[list[float]]]] = {}
    longest: dict[tuple[str, float, float], int] = {}
    for row in rows:
        losses = row.get("content_loss") or []
        if len(losses) > 1:
            key = (row["refiner"], row["strength"], row["cutoff"])
            longest[key] = max(longest.get(key, 0), len(losses))
            series.setdefault(key, {}).setdefault(row["clip"], []).append(losses)
    if not series:
        return False
    figure = new_figure(figsize=(6, 4))
    axes = figure.add_subplot()
    several = len({key[0] for key in series}) > 1
    for key, clips in series.items():
        count = longest[key]
        points = []
        for index in range(count):
            values = [
                sum(run[index] for run in runs if len(run) == count) / sum(len(run) == count for run in runs)
                for runs in clips.values()
                if any(len(run) == count for run in runs)
            ]
            points.append(mean_interval(values))
        label = f"ν = {key[2]:g}, strength {key[1]:g}" + (f", {key[0]}" if several else "")
        (line,) = axes.plot(range(count), [point.mean for point in points], "o-", markersize=3.5, label=label)
        low = [point.mean if point.low is None else point.low for point in points]
        high = [point.mean if point.high is None else point.high for point in points]
        axes.fill_between(range(count), low, high, alpha=0.15, color=line.get_color())
    axes.set_xlabel("iterations done")
    axes.set_ylabel("content loss ‖L(x̂₀ − x_r)‖ / ‖x_r‖")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    saved(figure, path)
    return True
