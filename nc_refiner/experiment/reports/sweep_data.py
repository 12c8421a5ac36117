"""What a sweep's page shows, as plain values: settings and their means, which of them no other beats, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...evaluation.catalogue import METRICS, metric_named
from ..statistics.fixed_horizon import MINIMUM_UNITS, mean_interval, paired_difference, per_clip
from .markdown import groups_of, labels_of, picked, shown
from .words import counted

__all__ = ["Point", "axes_of", "front_of", "points_of", "words_of"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One setting of one refiner.

    Attributes:
        refiner, strength, label: which it is; the input has no strength.
        method, iterations, cutoff: as in the table.
        means: metric → mean over clips.
        told: metric → `mean [low, high]` as a table shows it.
        videos: clip → kept file, relative to the sweep's folder.
    """

    refiner: str
    strength: float | None
    label: str
    method: str
    iterations: int | None
    cutoff: float | None
    means: dict[str, float]
    told: dict[str, str]
    videos: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a button calls it."""
        return self.label if self.strength is None else f"{self.label}, strength {self.strength:g}"


def points_of(rows: Sequence[Row]) -> list[Point]:
    """Every setting of a table, in its order; the input once per refiner."""
    names = [name for name in METRICS if any(row.get(name) is not None for row in rows)]
    found: dict[tuple[str, float | None, str], Point] = {}
    for refiner, strength in groups_of(rows):
        for label in labels_of(rows, refiner, strength):
            some = [row for row in rows if picked(refiner, strength, label)(row)]
            own = some[0]["strength"]
            if (refiner, own, label) in found:
                continue
            means, told = {}, {}
            for name in names:
                values = list(per_clip(some, name, lambda row: True).values())
                if values:
                    interval = mean_interval(values)
                    means[name], told[name] = interval.mean, shown(name, interval)
            first = some[0]
            videos: dict[str, str] = {}
            for row in some:
                if row.get("video"):
                    videos.setdefault(row["clip"], row["video"])
            found[refiner, own, label] = Point(
                refiner, own, label, first["method"], first.get("iterations"), first.get("cutoff"), means, told, videos
            )
    return list(found.values())


def axes_of(points: Sequence[Point]) -> tuple[str, str] | None:
    """The metrics of fidelity and of detail that the sweep measured; None where it lacks one."""
    measured = [name for name in METRICS if all(name in point.means for point in points)]
    near = next((name for name in ("mse_low", "mse", "ssim", "psnr") if name in measured), None)
    return (near, "spatial_frequency") if near is not None and "spatial_frequency" in measured else None


def front_of(points: Sequence[Point], axes: tuple[str, str]) -> list[Point]:
    """Refined settings that no other of their refiner beats on both axes, the most faithful first."""
    near, detail = axes
    sign = metric_named(near).sign

    def beats(one: Point, other: Point) -> bool:
        a, b = sign * one.means[near], sign * other.means[near]
        c, d = one.means[detail], other.means[detail]
        return a >= b and c >= d and (a > b or c > d)

    refined = [point for point in points if point.strength is not None]
    kept = [p for p in refined if not any(beats(q, p) for q in refined if q.refiner == p.refiner)]
    return sorted(kept, key=lambda point: -sign * point.means[near])


def words_of(rows: Sequence[Row], points: Sequence[Point]) -> tuple[str, list[str]]:
    """A headline and sentences: how many clips there are, and what calibration changed against SDEdit."""
    clips = len({row["clip"] for row in rows})
    axes = axes_of(points)
    lines = []
    if axes is not None:
        near, detail = (metric_named(name) for name in axes)
        for refiner, strength in groups_of(rows):
            group = [p for p in points if p.refiner == refiner and p.strength == strength]
            base = next((p for p in group if p.method == "sdedit"), None)
            arms = [p for p in group if p.method == "nc"]
            if base is None or not arms:
                continue
            best = max(arms, key=lambda p: near.sign * p.means[near.name])
            pair = paired_difference(
                rows, near.name, picked(refiner, strength, best.label), picked(refiner, strength, base.label)
            )
            better = (
                ""
                if pair is None
                else f", better on {pair.above if near.sign > 0 else pair.below} of {counted(pair.count, 'clip')}"
            )
            change = 100 * (best.means[detail.name] / base.means[detail.name] - 1) if base.means[detail.name] else 0.0
            way = (
                "as much detail"
                if abs(change) < 2
                else f"{abs(change):.0f} % {'more' if change > 0 else 'less'} detail"
            )
            who = f"{refiner}, strength" if len({p.refiner for p in points}) > 1 else "Strength"
            lines.append(
                f"{who} {strength:g}: {best.label} stays nearest to the input ({near.label} "
                f"{near.shown(best.means[near.name])}, SDEdit {near.shown(base.means[near.name])}{better}), with {way}."
            )
    if clips < MINIMUM_UNITS:
        return (
            f"Not enough clips to prefer a setting: {counted(clips, 'clip')}; at least {MINIMUM_UNITS} are needed.",
            [*lines, "Use this page to choose what to try on more clips, with nc-refiner ab run."],
        )
    return (
        f"What each setting does to {counted(clips, 'clip')}, on average: choose along the front below.",
        [*lines, "Many settings were tried on the same clips: the best of them looks better than it is. "
         "Confirm your choice on other clips with nc-refiner ab run."],
    )  # fmt: skip
