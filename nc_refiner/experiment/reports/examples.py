"""Clips of a run for the players of its report: those on which an arm fares worst and best."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ... import video
from ...pages import Embedded
from ..offline.results import Results
from ..statistics.analysis import Analysis
from .words import number

__all__ = ["entry", "examples"]

WIDTH = 960
"""Wider clips are made as small as this, in pixels; others are embedded as they were kept."""
CRF = 20


def entry(path: Path, label: str, embedded: Embedded, name: str) -> dict[str, Any] | None:
    """A kept clip as a player takes it; None where it cannot be embedded.

    Args:
        path: of the clip.
        label: what the player calls it.
        embedded: takes the video.
        name: what a note calls it if it is left out.
    """
    info = video.probe(path)
    if info.width <= WIDTH:
        content = path.read_bytes()
    else:
        clip = video.read_clip(path, height=max(16, 2 * round(info.height * WIDTH / info.width / 2)))
        with tempfile.TemporaryDirectory(prefix="nc_refiner_report_") as folder:
            small = Path(folder) / "clip.mp4"
            with video.FrameWriter(small, clip.fps, crf=CRF) as writer:
                writer.write(clip.frames)
            content = small.read_bytes()
    key = embedded.add(content, name)
    if key is None:
        return None
    return {"label": label, "video": key, "frames": info.frames, "fps": info.fps, "size": [info.width, info.height]}


def examples(analysis: Analysis, arm: str, results: Results, embedded: Embedded) -> dict[str, Any] | None:
    """What the player of one arm is given, and the clips to choose from, the worst first; None where none was kept."""
    control, primary = analysis.options.control, analysis.primary(arm)
    if primary is None or not primary.sample.paired:
        return None
    clips: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    for kind, found in (("worse", analysis.worst(arm)), ("better", analysis.best(arm))):
        for one in found:
            paths = {
                name: results.clip(one.unit, side)
                for name, side in (("input", None), ("control", control), ("arm", arm))
            }
            if any(path is None for path in paths.values()):
                continue
            labels = {"input": f"input {one.unit}", "control": control, "arm": arm}
            made = {
                side: entry(path, labels[side], embedded, f"{labels[side]} of {one.unit}")
                for side, path in paths.items()
                if path is not None
            }
            if any(value is None for value in made.values()):
                continue
            places = {}
            for side, value in made.items():
                places[side] = len(clips)
                clips.append(value or {})
            told = (
                f"{one.unit}: {primary.metric.title} {number(one.control)} with {control}, {number(one.arm)} with {arm}"
            )
            sets.append({"unit": one.unit, "kind": kind, "told": told, "difference": number(one.difference), **places})
    if not sets:
        return None
    player = {"clips": clips, "left": sets[0]["control"], "right": sets[0]["arm"], "reference": "", "sets": sets}
    return {"player": player, "sets": sets}
