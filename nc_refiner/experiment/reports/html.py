"""The report: one HTML file that needs nothing else and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ... import video
from ..._version import __version__
from ...evaluation.extras import load
from ...files import write_text
from ..offline.results import Results
from ..statistics.analysis import Analysis, Comparison
from .plots import cumulative_plot, forest_plot
from .words import WAYS, conclude, number, span

__all__ = ["write_report"]

EXTREMES = 3
"""Units shown per direction."""
PANEL_HEIGHT = 160
LIMIT_BYTES = 32_000_000


@dataclass(frozen=True)
class _Player:
    """One unit shown: its name, its difference, and the three clips side by side as base64 of an mp4."""

    unit: str
    difference: str
    video: str


def write_report(analysis: Analysis, path: Path, results: Results | None = None) -> None:
    """Write the report of `analysis`; with `results`, clips of the units where the arms differ most.

    Raises:
        ImportError: jinja2 or matplotlib is missing.
        ValueError: the file cannot be written.
    """
    jinja = load("jinja2")
    style = files("nc_refiner.experiment.reports").joinpath("templates/report.css").read_text(encoding="utf-8")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("nc_refiner.experiment.reports"), autoescape=True, undefined=jinja.StrictUndefined
    )
    text = environment.get_template("report.html").render(
        version=__version__,
        analysis=analysis,
        conclusions=conclude(analysis),
        arms=[_arm(analysis, arm, results) for arm in analysis.arms],
        style=style,
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        number=number,
    )
    with write_text(path, text) as file:
        file.commit()


def _arm(analysis: Analysis, arm: str, results: Results | None) -> dict[str, Any]:
    compared = [c for c in analysis.comparisons if c.arm == arm]
    primary = analysis.primary(arm)
    return {
        "name": arm,
        "forest": _embedded(forest_plot(compared)),
        "rows": [_row(analysis, c) for c in compared],
        "cumulative": [
            (c.metric.title, _embedded(cumulative_plot(analysis, c)))
            for c in compared
            if len(c.confidence_sequence) > 1
        ],
        "players": _players(primary, results) if primary is not None and results is not None else [],
        "primary": primary,
    }


def _embedded(svg: str) -> str:
    """As an image: its own styles then need no permission from the page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _row(analysis: Analysis, c: Comparison) -> dict[str, Any]:
    arrow = {-1: "↓", 1: "↑", 0: ""}[c.metric.sign]
    return {
        "label": c.metric.title,
        "arrow": arrow,
        "better": WAYS[c.metric.sign],
        "control": number(float(c.sample.control.mean())) if len(c.sample.control) else "–",
        "arm": number(float(c.sample.arm.mean())) if len(c.sample.arm) else "–",
        "difference": number(c.difference),
        "interval": span(c.interval.low, c.interval.high),
        "always": span(float(c.confidence_sequence.low[-1]), float(c.confidence_sequence.high[-1])),
        "p": f"{c.p_adjusted:.2g}",
        "verdict": c.verdict,
        "class": c.verdict.replace(" ", "-"),
    }


def _players(primary: Comparison, results: Results) -> list[tuple[str, list[_Player]]]:
    """Units with the largest differences on the deciding metric, in both directions."""
    if not primary.sample.paired:
        return []
    sign = primary.metric.sign or 1
    ranked = sorted(
        zip(primary.sample.units, primary.sample.differences, strict=True), key=lambda entry: -sign * float(entry[1])
    )
    count = min(EXTREMES, (len(ranked) + 1) // 2)
    groups: Sequence[tuple[str, Sequence[tuple[str, float]]]] = [
        (f"Most in favour of {primary.arm}", ranked[:count]),
        (f"Most in favour of {primary.control}, or least of {primary.arm}", list(reversed(ranked[count:][-count:]))),
    ]
    found, used = [], 0
    for title, chosen in groups if count else []:
        players = []
        for unit, difference in chosen:
            content = _side_by_side(unit, primary, results)
            if content is not None and used + len(content) <= LIMIT_BYTES:
                used += len(content)
                text = base64.b64encode(content).decode("ascii")
                players.append(_Player(unit, number(float(difference)), text))
        if players:
            found.append((title, players))
    return found


def _side_by_side(unit: str, primary: Comparison, results: Results) -> bytes | None:
    """Input, control and arm in one looping clip, so that they stay in step; None where they were not kept."""
    paths = [results.clip(unit, name) for name in (None, primary.control, primary.arm)]
    there = [path for path in paths if path is not None]
    if len(there) < len(paths):
        return None
    clips = [video.read_clip(path) for path in there]
    factor = max(1, round(PANEL_HEIGHT / clips[0].height))
    frames = [_enlarged(clip.frames, factor) for clip in clips]
    with tempfile.TemporaryDirectory(prefix="nc_refiner_report_") as folder:
        target = Path(folder) / "unit.mp4"
        labels = ("input", primary.control, primary.arm)
        with video.SideBySideWriter(target, labels, clips[0].fps, crf=18) as writer:
            writer.write(*frames)
        return target.read_bytes()


def _enlarged(frames: torch.Tensor, factor: int) -> torch.Tensor:
    """Whole-number enlargement without smoothing: pixels stay what they are."""
    return frames.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
