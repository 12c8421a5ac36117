"""The document's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nc_refiner.experiment.reports.figures import draw_losses, draw_tradeoff, new_figure, saved
from nc_refiner.experiment.statistics.fixed_horizon import per_clip
from nc_refiner.sweeps import Estimate, mean_interval

from .claims import Tables, calibrated
from .plans import DEFAULT_STRENGTH, GRID_CUTOFFS, PAPER_STRENGTH, PAPER_STRENGTHS

__all__ = ["draw_all"]

COUNTS = (0, 1, 2, 3, 10)


def _estimates(rows: Sequence[dict[str, Any]], metric: str, picks: Sequence[Callable[..., bool]]) -> list[Estimate]:
    return [mean_interval(list(per_clip(rows, metric, pick).values())) for pick in picks]


def _line(axes: Any, positions: Sequence[float], found: Sequence[Estimate], label: str, factor: float = 1.0) -> None:
    means = [estimate.mean * factor for estimate in found]
    low = [factor * (estimate.mean if estimate.low is None else estimate.low) for estimate in found]
    high = [factor * (estimate.mean if estimate.high is None else estimate.high) for estimate in found]
    (line,) = axes.plot(positions, means, "o-", markersize=3.5, label=label)
    axes.fill_between(positions, low, high, alpha=0.12, color=line.get_color())


def _finish(axes: Any, title: str, across: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _iterations(tables: Tables, path: Path) -> None:
    figure = new_figure(figsize=(10.5, 3.2))
    panels = (
        ("mse", "MSE ×10⁻³ to the input", 1e3),
        ("ssim", "SSIM to the input", 1.0),
        ("psnr_to_original", "PSNR to the original, dB", 1.0),
        ("clipped_shift", "clipped pixels, change", 1.0),
    )
    for index, (metric, title, factor) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for plan, strength in (("default", DEFAULT_STRENGTH), ("paper", PAPER_STRENGTH)):
            picks = [calibrated(count, 1.0, strength) for count in COUNTS]
            _line(axes, range(len(COUNTS)), _estimates(tables[plan], metric, picks), f"strength {strength:g}", factor)
        axes.set_xticks(range(len(COUNTS)), [str(count) for count in COUNTS])
        _finish(axes, title, "N (0: SDEdit)")
        if index == 0:
            axes.legend(fontsize=8)
    saved(figure, path)


def _grid(tables: Tables, path: Path) -> None:
    figure = new_figure(figsize=(8, 3.2))
    for index, (metric, title, factor) in enumerate(
        (("mse", "MSE ×10⁻³ to the input", 1e3), ("spatial_frequency", "spatial frequency", 1.0))
    ):
        axes = figure.add_subplot(1, 2, index + 1)
        for strength in PAPER_STRENGTHS:
            picks = [calibrated(3, cutoff, strength) for cutoff in GRID_CUTOFFS]
            found = _estimates(tables["grid"], metric, picks)
            _line(axes, GRID_CUTOFFS, found, f"t = {1000 * strength:.0f}", factor)
        _finish(axes, title, "ν (0: SDEdit)")
        if index == 0:
            axes.legend(fontsize=8)
    saved(figure, path)


def draw_all(tables: Tables, folder: Path) -> None:
    """`iterations.png`, `grid.png`, `content_loss.png` and `rivals.png` in `folder`."""
    _iterations(tables, folder / "iterations.png")
    _grid(tables, folder / "grid.png")
    draw_losses([row for row in tables["trace"] if row["method"] == "trace"], folder / "content_loss.png")
    draw_tradeoff(tables["default"], folder / "rivals.png", x="psnr_to_original")
