"""How far refinements of one host go: the distance along the ladder, as the first estimate foretells it.

A refiner that changes much in its first estimate changes much in the end. Over the clips that `nc-refiner tune` was
given, the logarithm of the output's distance is a straight line of the logarithm of the first estimate's, at each rung.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...files import FileError, read_text, write_text

__all__ = ["HEIGHTS", "Line", "Tuning", "built_in", "fitted", "read_tuning", "write_tuning"]

HEIGHTS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.35, 1.7, 2.0)
"""Rungs that are measured."""
BUILT_IN = Path(__file__).with_name("embedded.json")
VERSION = 1
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """`log(distance of the output) = intercept + slope · log(distance of the first estimate)` at one rung."""

    height: float
    intercept: float
    slope: float


@dataclass(frozen=True)
class Tuning:
    """What was learned of one host.

    Attributes:
        adapter: its name.
        strongest, iterations, cutoff: of the ladder that was measured.
        clips: how many clips it was learned from.
        lines: metric → a line for each rung, from the gentlest up.
    """

    adapter: str
    strongest: float
    iterations: int
    cutoff: float
    clips: int
    lines: Mapping[str, Sequence[Line]]

    def expected(self, metric: str, first: float, height: float) -> float:
        """The logarithm of the output's distance at `height`, of a clip whose first estimate's distance is `first`."""
        points = [(line.height, line.intercept + line.slope * math.log(first)) for line in self.lines[metric]]
        # Below the lowest rung the distance falls with the strength, as it does between the two lowest.
        for (low, before), (high, after) in pairwise(points):
            if height <= high:
                share = (math.log(height) - math.log(low)) / (math.log(high) - math.log(low))
                return before + share * (after - before)
        return points[-1][1]


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Intercept and slope of the straight line through `(x, y)`, least squares; slope 1 where there are under three."""
    mean_x = math.fsum(x for x, _ in points) / len(points)
    mean_y = math.fsum(y for _, y in points) / len(points)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    slope = 1.0
    if len(points) >= 3 and spread > 1e-6:
        slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - slope * mean_x, slope


def write_tuning(tuning: Tuning, path: Path) -> None:
    """Write as JSON, whole or not at all."""
    data = {"version": VERSION, **asdict(tuning)}
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n").commit()


def built_in() -> Tuning:
    """What holds for the embedded refiner; where nobody tuned, other hosts start from it too."""
    return read_tuning(BUILT_IN)


def read_tuning(path: Path) -> Tuning:
    """Read what `write_tuning` wrote.

    Raises:
        ValueError: no such file, or not a tuning.
    """
    remedy = "make one: nc-refiner tune CLIPS --output FILE"
    try:
        data: Any = json.loads(read_text(path, MAX_BYTES, "a tuning"))
        if data.pop("version") != VERSION:
            raise ValueError("of another version")
        lines = {
            str(metric): tuple(
                Line(*(float(line[name]) for name in ("height", "intercept", "slope"))) for line in found
            )
            for metric, found in data.pop("lines").items()
        }
        for found in lines.values():
            heights = [line.height for line in found]
            if len(heights) < 2 or heights != sorted(set(heights)) or heights[0] <= 0:
                raise ValueError("its rungs are out of order")
            if not all(math.isfinite(number) for line in found for number in (line.intercept, line.slope)):
                raise ValueError("its lines are not finite")
        return Tuning(**data, lines=lines)
    except FileError as error:
        raise ValueError(f"{error}; {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a tuning ({error}); {remedy}") from None
