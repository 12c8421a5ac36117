"""Interleaved timing: A B A B …, so that whatever else the machine does falls on all candidates alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "interleaved", "ratio"]


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, one entry per round: on the clock (`wall`) and of this process (`cpu`)."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def wall_ms(self) -> float:
        """Median on the clock, milliseconds."""
        return 1000 * statistics.median(self.wall)

    @property
    def cpu_ms(self) -> float:
        """Median of the processor time, summed over threads, milliseconds; other programs do not lengthen it."""
        return 1000 * statistics.median(self.cpu)


def interleaved(candidates: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every candidate once per round, in order, for `repeats` ≥ 1 rounds, after one untimed round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for measured in (False, *[True] * repeats):
        for name, candidate in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            candidate()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if measured:
                seconds[name].append(spent)
    return {name: Timing(tuple(w for w, _ in pairs), tuple(c for _, c in pairs)) for name, pairs in seconds.items()}


def ratio(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Median over the rounds of `a / b`: neighbours in time are compared, so a slow minute does not decide."""
    return statistics.median(x / max(y, 1e-9) for x, y in zip(a, b, strict=True))
