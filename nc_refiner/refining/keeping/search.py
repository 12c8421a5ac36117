"""Which rung to try next, and which of those tried is the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ..fidelity import RUNS, Fidelity
from .ladder import GENTLEST, TOP
from .tuning import Tuning

__all__ = ["Search", "Tried"]

CLOSE = 0.01
"""Rungs that are nearer than this are one."""


@dataclass(frozen=True)
class Tried:
    """A rung that was run: its height, and the metric's value of its output."""

    height: float
    value: float


class Search:
    """Asks for rungs until one reaches the target, none can, or `RUNS` were run.

    The tuning says what to expect of every rung; what the runs were off by shifts it, between two of them in
    proportion.

    Args:
        target: what must be kept.
        tuning: of the host.
        first: distance of the clip's first estimate at the top of the strengths.
        top: the highest rung.
        before: `off` of an earlier search that this one resembles.
    """

    def __init__(self, target: Fidelity, tuning: Tuning, first: float, top: float = TOP, before: float = 0.0):
        self.target, self.tuning, self.first, self.top, self.before = target, tuning, first, top, before
        self.tried: list[Tried] = []

    def next(self) -> float | None:
        """The height to run next; None when there is nothing left to try."""
        if len(self.tried) >= RUNS or any(self.target.reached(one.value) for one in self.tried):
            return None
        wanted = self._crossing()
        return None if any(abs(one.height - wanted) < CLOSE for one in self.tried) else wanted

    def tell(self, height: float, value: float) -> None:
        """Take in the metric's value of the output at `height`."""
        self.tried.append(Tried(height, value))

    def best(self) -> int:
        """Which of the tried runs is the answer: the one nearest to the target; of those that miss it, one that holds
        it comes first."""

        def rank(index: int) -> tuple[bool, bool, float]:
            value = self.tried[index].value
            miss = abs(math.log(self.target.distance(value) / self.target.distance(self.target.value)))
            return not self.target.reached(value), not self.target.held(value), miss

        return min(range(len(self.tried)), key=rank)

    def _expected(self, height: float) -> float:
        """Logarithm of the distance at `height`, as far as is known by now."""
        plain = self.tuning.expected(self.target.metric, self.first, height)
        known = sorted((one.height, self._off(one)) for one in self.tried)
        if not known:
            return plain + self.before
        for (low, before), (high, after) in pairwise(known):
            if low <= height <= high:
                return plain + before + (after - before) * (height - low) / (high - low)
        return plain + (known[0] if height < known[0][0] else known[-1])[1]

    def off(self) -> float:
        """By how much the tuning was off at the answer, as a logarithm."""
        return self._off(self.tried[self.best()])

    def _off(self, one: Tried) -> float:
        expected = self.tuning.expected(self.target.metric, self.first, one.height)
        return math.log(self.target.distance(one.value)) - expected

    def _crossing(self) -> float:
        """The height at which the expected distance passes the target's, by bisection; an end where it does not."""
        wanted = math.log(self.target.distance(self.target.value))
        low, high = min(GENTLEST, self.top), self.top
        # What was run bounds the answer, whatever the curve says.
        for one in self.tried:
            if math.log(self.target.distance(one.value)) < wanted:
                low = max(low, one.height)
            else:
                high = min(high, one.height)
        bounds = {one.height for one in self.tried}
        if low >= high or self._expected(low) >= wanted:
            return low if low not in bounds else (low + high) / 2
        if self._expected(high) < wanted:
            return high if high not in bounds else (low + high) / 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self._expected(middle) < wanted else (low, middle)
        return (low + high) / 2
