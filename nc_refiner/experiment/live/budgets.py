"""Guardrails of an arm: budgets for a request, and a rolling window that switches off an arm that fails too often."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["ArmFailure", "Breaker", "CallLimits", "Guardrails", "MemoryMeter", "all_finite"]


class ArmFailure(Exception):
    """An arm broke a guardrail; `kind` is `nan`, `time`, `memory` or `busy`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Guardrails:
    """What an arm other than the control may cost before a request falls back to the control.

    Attributes:
        seconds: time budget of one call, above 0; None: none. A running torch call cannot be interrupted: with
            `deadline="thread"` the request stops waiting at the budget and is given the control, while the arm's call
            goes on until its next `on_step`, where it is stopped; meanwhile the arm takes no request (`busy`) on that
            account. With `deadline="step"` the call runs in the request's own thread and is stopped at its first
            `on_step` past the budget, or discarded when it returns too late. A request that falls back takes the time
            spent on the arm and the control's own.
        memory_bytes: by how much memory in use may grow during a call, at its peak; None: no limit. Allocated memory of
            the current CUDA device where torch has initialised it, else this process's resident memory; seen at every
            `on_step` and at the end. Calls that run side by side share the figure.
        deadline: `thread`, `step`, or `auto`: `thread` unless the arms share an adapter, since a call that is left
            behind must not run on the model that the control is using.
        window: calls of an arm that are looked back on, ≥ 1.
        min_calls: no verdict before so many calls are in the window, ≥ 1.
        max_failure_rate: an arm is switched off when a larger share of the window failed, in [0, 1].

    Raises:
        ValueError: out of range.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    deadline: str = "auto"
    window: int = 50
    min_calls: int = 10
    max_failure_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"the time budget is {self.seconds} s; it must be above 0")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise ValueError(f"the memory budget is {self.memory_bytes} bytes; it must be above 0")
        if self.deadline not in ("auto", "thread", "step"):
            raise ValueError(f"deadline is {self.deadline!r}; it is auto, thread or step")
        if not 1 <= self.min_calls <= self.window:
            raise ValueError(f"min_calls is {self.min_calls}; it must lie in 1…{self.window}, the window")
        if not 0 <= self.max_failure_rate <= 1:
            raise ValueError(f"max_failure_rate is {self.max_failure_rate}; it must lie in [0, 1]")


class Breaker:
    """Counts the failures among an arm's last `window` calls; safe to share between threads."""

    def __init__(self, rails: Guardrails):
        self._rails = rails
        self._calls: deque[bool] = deque(maxlen=rails.window)
        self._lock = threading.Lock()

    def add(self, failed: bool) -> str | None:
        """Take in one call; the reason to switch the arm off, if there is one now."""
        with self._lock:
            self._calls.append(failed)
            count, failures = len(self._calls), sum(self._calls)
        if failed and count >= self._rails.min_calls and failures > self._rails.max_failure_rate * count:
            return f"{failures} of the last {count} calls failed"
        return None

    def reset(self) -> None:
        """Forget the past, for an arm that is switched on again."""
        with self._lock:
            self._calls.clear()


class MemoryMeter:
    """Growth of memory in use since the meter was made, in bytes."""

    def __init__(self) -> None:
        self._cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._before, self._peak_before = self._now()
        self._most = self._before

    def _now(self) -> tuple[int, int]:
        """Bytes in use, and the highest ever."""
        if self._cuda:
            return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        found = {"VmRSS:": 0, "VmHWM:": 0}
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 0, 0
        for line in status.split("\n"):
            if line.startswith(("VmRSS:", "VmHWM:")):
                name, value = line.split()[:2]
                found[name] = int(value) * 1024
        return found["VmRSS:"], found["VmHWM:"]

    def growth(self) -> int:
        """The most so far. A peak between two looks is seen when it is the highest of the whole process."""
        now, peak = self._now()
        self._most = max(self._most, now, peak if peak > self._peak_before else 0)
        return self._most - self._before


class CallLimits:
    """The deadline and memory limit of one call, asked after every step of it."""

    def __init__(self, rails: Guardrails, user: Callable[[str], None] | None = None):
        self._rails, self._user = rails, user
        self._ends = math.inf if rails.seconds is None else time.monotonic() + rails.seconds
        self._meter = MemoryMeter() if rails.memory_bytes is not None else None
        self.caller_error: BaseException | None = None

    @property
    def needed(self) -> bool:
        """Whether the call has to be watched at its steps."""
        return self._user is not None or self._meter is not None or self._ends < math.inf

    def abandon(self) -> None:
        """Stop the call at its next step."""
        self._ends = -math.inf

    def check(self) -> None:
        """Raise `ArmFailure` when a budget is spent."""
        if time.monotonic() > self._ends:
            raise ArmFailure("time", f"took longer than {self._rails.seconds} s")
        if self._meter is not None and self._rails.memory_bytes is not None:
            grown = self._meter.growth()
            if grown > self._rails.memory_bytes:
                raise ArmFailure("memory", f"memory grew by {grown} bytes, allowed are {self._rails.memory_bytes}")

    def on_step(self, stage: str) -> None:
        """What the arm calls after every step; the caller's own `on_step` is called from it."""
        self.check()
        if self._user is not None:
            try:
                self._user(stage)
            except BaseException as error:
                # The caller stops its own request with this: it is no failure of the arm.
                self.caller_error = error
                raise


def all_finite(value: Any, depth: int = 4) -> bool:
    """Whether every number in an arm's output is finite: tensors, arrays, floats, and what holds them.

    Looks into lists, tuples, mappings and, of other objects, `frames`, `images`, `videos`, `clip`, `content_loss`,
    `trace`; no deeper than `depth`.
    """
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == "f":
        import numpy as np

        return bool(np.isfinite(value).all())
    if kind is not None or depth == 0 or isinstance(value, (str, bytes, int)) or value is None:
        return True
    if isinstance(value, Mapping):
        return all(all_finite(item, depth - 1) for item in value.values())
    if isinstance(value, Sequence):
        return all(all_finite(item, depth - 1) for item in value)
    parts = (getattr(value, name, None) for name in ("frames", "images", "videos", "clip", "trace", "content_loss"))
    return all(all_finite(part, depth - 1) for part in parts if part is not None)
