"""A sweep's page: heat maps of every setting, the front of fidelity against detail, each point with its player."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ... import video
from ...evaluation.catalogue import METRICS, Metric, metric_named
from ...evaluation.extras import load
from ...pages import Embedded, render
from ...pages.scatter import Dot, scatter
from .markdown import groups_of
from .sweep_data import Point, axes_of, front_of, points_of, words_of

__all__ = ["sweep_page"]

Row = dict[str, Any]
LIMIT_BYTES = 64_000_000
CLIPS = 4
"""Clips of which every setting can be watched; all of them would make the file too large to open."""
PLAYER_HEIGHT = 480
LEVELS = 10


def sweep_page(rows: Sequence[Row], title: str, folder: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """The page of a table that `run_plan` gave.

    Args:
        rows: the table.
        title: of the page.
        folder: what `video` of a row is relative to.
        limit_bytes: of all embedded videos together.

    Raises:
        ImportError: Jinja2 is not installed.
    """
    load("jinja2", "evaluation")
    points, axes = points_of(rows), axes_of(points_of(rows))
    metrics = [metric_named(name) for name in METRICS if any(name in point.means for point in points)]
    metrics = [metric for metric in metrics if metric.name != "psnr"]
    embedded = Embedded(limit_bytes, "the settings stay in the table; the clip is in the sweep's folder")
    player, clips = _player(points, rows, folder, embedded)
    headline, lines = words_of(rows, points)
    front = [] if axes is None else front_of(points, axes)
    number = {id(point): i for i, point in enumerate(points)}
    plots = [] if axes is None else _plots(points, front, axes, number)
    return render(
        "sweep.html",
        "nc_refiner.experiment.reports",
        [player] if player is not None else [],
        embedded.videos,
        "sweep.js",
        embedded.notes,
        title=title,
        headline=headline,
        lines=lines,
        metrics=metrics,
        first=axes[0] if axes is not None else (metrics[0].name if metrics else ""),
        grids=[_grid(points, metric, number) for metric in metrics],
        axes=None if axes is None else [metric_named(name) for name in axes],
        front=[(number[id(point)], point) for point in front],
        plots=plots,
        points=[(number[id(point)], point) for point in points],
        clips=clips,
        kept=sum(bool(point.videos) for point in points),
    )


def _player(
    points: Sequence[Point], rows: Sequence[Row], folder: Path, embedded: Embedded
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the player is given: clips by setting; and the names of the clips. None where no output was kept."""
    names = list(dict.fromkeys(row["clip"] for row in rows))
    there = [name for name in names if any(name in point.videos for point in points)][:CLIPS]
    found: dict[str, dict[str, int]] = {}
    clips: list[dict[str, Any]] = []
    for name in there:
        for number, point in enumerate(points):
            path = folder / point.videos[name] if name in point.videos else None
            if path is None or not path.is_file():
                continue
            info = video.probe(path)
            key = embedded.add(path.read_bytes(), f"{point.title} of {name}")
            if key is not None:
                found.setdefault(name, {})[str(number)] = len(clips)
                size = [info.width, info.height]
                clips.append({"label": point.title, "video": key, "frames": info.frames, "fps": info.fps, "size": size})
    if not clips:
        return None, []
    base = {}
    for number, point in enumerate(points):
        same = [
            other
            for other, p in enumerate(points)
            if p.refiner == point.refiner and p.method == "sdedit" and p.strength == point.strength
        ]
        input_ = [other for other, p in enumerate(points) if p.refiner == point.refiner and p.method == "input"]
        base[str(number)] = {"SDEdit": next(iter(same), None), "input": next(iter(input_), None)}
    return {"clips": clips, "left": 0, "right": 0, "reference": "", "found": found, "base": base}, list(found)


def _grid(points: Sequence[Point], metric: Metric, number: dict[int, int]) -> dict[str, Any]:
    """One metric: per refiner and strength a table of N × ν, each cell with its level of colour."""
    values = [p.means[metric.name] for p in points if p.method in ("nc", "sdedit") and metric.name in p.means]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)

    def level(value: float) -> int:
        share = 0.5 if high <= low else (value - low) / (high - low)
        return min(LEVELS - 1, int((1 - share if metric.sign < 0 else share) * LEVELS))

    def cell(point: Point | None) -> dict[str, Any] | None:
        if point is None or metric.name not in point.means:
            return None
        value = point.means[metric.name]
        told = point.told[metric.name]
        return {"point": number[id(point)], "level": level(value), "value": metric.shown(value), "told": told}

    tables = []
    for refiner, strength in dict.fromkeys((p.refiner, p.strength) for p in points if p.strength is not None):
        group = [p for p in points if p.refiner == refiner and p.strength == strength]
        cutoffs = sorted({p.cutoff for p in group if p.method == "nc" and p.cutoff is not None})
        counts = sorted({p.iterations for p in group if p.method == "nc" and p.iterations is not None})
        base = next((p for p in group if p.method == "sdedit"), None)
        place = {(p.iterations, p.cutoff): p for p in group if p.method == "nc"}
        tables.append(
            {
                "refiner": refiner,
                "strength": strength,
                "cutoffs": cutoffs,
                "base": cell(base),
                "rows": [(count, [cell(place.get((count, cutoff))) for cutoff in cutoffs]) for count in counts],
            }
        )
    way = {-1: "less is better", 1: "more is better", 0: "neither more nor less is better in itself"}[metric.sign]
    dark = {-1: "less", 1: "more", 0: "more"}[metric.sign]
    return {"metric": metric, "tables": tables, "way": way, "dark": dark, "light": "more" if dark == "less" else "less"}


def _plots(
    points: Sequence[Point], front: Sequence[Point], axes: tuple[str, str], number: dict[int, int]
) -> list[tuple[str, Any, list[tuple[str, int]]]]:
    """Per refiner and strength: title, picture, and what its colours stand for."""
    near, detail = (metric_named(name) for name in axes)

    def place(point: Point) -> tuple[float, float]:
        return point.means[near.name] * near.factor, point.means[detail.name] * detail.factor

    shown = [p for p in points if all(name in p.means for name in axes)]
    found: list[tuple[str, Any]] = []
    groups = groups_of([{"refiner": p.refiner, "strength": p.strength} for p in points])
    cutoffs = sorted({p.cutoff for p in points if p.method == "nc" and p.cutoff is not None})
    for refiner, strength in groups:
        dots = []
        for point in shown:
            if point.refiner != refiner or point.strength not in (strength, None):
                continue
            series = 7 if point.method != "nc" or point.cutoff is None else cutoffs.index(point.cutoff) % 7
            text = (
                str(point.iterations) if point.method == "nc" else {"sdedit": "0", "input": "◆"}.get(point.method, "×")
            )
            told = f"{point.title}: {near.label} {point.told[near.name]}, {detail.label} {point.told[detail.name]}"
            on_front = any(point is other for other in front)
            dots.append(Dot(*place(point), text, series, told, number[id(point)], on_front))
        line = [place(p) for p in front if p.refiner == refiner and p.strength == strength]
        title = (
            f"{refiner}, strength {strength:g}" if len({p.refiner for p in points}) > 1 else f"Strength {strength:g}"
        )
        found.append((title, scatter(dots, line, near.label, detail.label, near.sign < 0)))
    keys = [(f"ν = {cutoff:g}", i % 7) for i, cutoff in enumerate(cutoffs)]
    keys.append(("SDEdit (0), input (◆), others (×)", 7))
    return [(title, picture, keys) for title, picture in found]
