"""How a router goes about it: everything but its arms and their shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..store.events import Assignment
from .budgets import Guardrails
from .telemetry import Telemetry

__all__ = ["Assigner", "RouterOptions"]


class Assigner(Protocol):
    """Anything that gives units their arms: a `Split`, a `FlagAssigner`, a team's own."""

    def assign(self, unit: str) -> Assignment:
        """The arm of `unit`."""


@dataclass(frozen=True, kw_only=True)
class RouterOptions:
    """How a router goes about it.

    Attributes:
        assigner: decides instead of the hash, for example a `FlagAssigner`.
        mode: `live`, or `shadow`: everyone is given the control, and the arms run afterwards for the record alone.
        guardrails: `Guardrails` of every arm but the control; or by arm.
        evaluate: measures an output off the request path: `evaluate(arguments, output)` gives metric → number, where
            `arguments` are the call's positional ones.
        switch_file: while this file exists the arms named in it are off, all if it is empty.
        poll_seconds: how often that file and the store are looked at.
        telemetry: see `Observability`.
        queue: shadow runs and evaluations that may wait, each holding its clip, ≥ 1.
        takes_on_step: whether every arm takes `on_step=`, called after each step.

    Raises:
        ValueError: a mode that is none.
    """

    assigner: Assigner | None = None
    mode: str = "live"
    guardrails: Guardrails | Mapping[str, Guardrails] | None = None
    evaluate: Callable[[tuple[Any, ...], Any], Mapping[str, float]] | None = None
    switch_file: str | os.PathLike[str] | None = None
    poll_seconds: float = 1.0
    telemetry: Telemetry | None = None
    queue: int = 8
    takes_on_step: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("live", "shadow"):
            raise ValueError(f"mode is {self.mode!r}; it is live or shadow")
