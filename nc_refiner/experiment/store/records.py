"""What happens in an experiment, and the rows it becomes."""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .database import Row
from .encoding import MESSAGE_LENGTH
from .events import Assignment, SwitchState

__all__ = [
    "Failure",
    "Outcome",
    "RequestRecord",
    "SwitchRecord",
    "derived_id",
    "new_id",
]


def new_id() -> str:
    """A fresh name for a row, 32 characters."""
    return uuid.uuid4().hex


def derived_id(*parts: str) -> str:
    """A name that the same parts always get, 40 characters."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:40]


@dataclass(frozen=True)
class Failure:
    """An arm's failure; `kind`: raised, nan, time, memory, busy; `caller` where the control failed as well."""

    arm: str
    kind: str
    message: str


@dataclass(frozen=True)
class RequestRecord:
    """One call of an arm, with all that is to be written about it.

    Attributes:
        experiment, unit: as in `Observation`. id: of the request. given: the unit's assignment.
        served: the arm whose output was returned; None if the request failed.
        role: `live` or `shadow`. exposed, measured: whether an exposure and measurements are written.
        seconds: the whole request's. at: its start. pair: shared by calls on the same clip and noise. seed: if known.
        failure: of the assigned arm, if it failed. content_loss: per iteration. receipt: the served run's.
        off: whether the assigned arm was switched off, and therefore not called.
    """

    experiment: str
    unit: str
    id: str
    given: Assignment
    served: str | None
    role: str
    exposed: bool
    measured: bool
    seconds: float
    at: float
    pair: str | None = None
    seed: int | None = None
    failure: Failure | None = None
    content_loss: Sequence[float] = ()
    receipt: Mapping[str, Any] | None = None
    off: bool = False

    def rows(self) -> list[Row]:
        """The rows of every table."""
        arm, common = self.given.arm, {"experiment": self.experiment, "unit": self.unit}
        request = {
            "id": self.id,
            **common,
            "assigned": arm,
            "served": self.served,
            "role": self.role,
            "reason": "off" if self.off else self.given.reason,
            "weight": self.given.weight,
            "pair": self.pair,
            "seed": self.seed,
            "seconds": self.seconds,
            "receipt": self.receipt,
            "at": self.at,
        }
        found: list[Row] = [("requests", request)]
        if self.failure is not None:
            words = {"kind": self.failure.kind, "message": self.failure.message[:MESSAGE_LENGTH]}
            key = derived_id(self.id, self.failure.arm, "error")
            found.append(
                ("errors", {"id": key, **common, "arm": self.failure.arm, "request": self.id, **words, "at": self.at})
            )
        if self.exposed:
            # The unit and the arm make the key: a unit that comes back is exposed once.
            key = derived_id(self.experiment, self.unit, arm)
            found.append(("exposures", {"id": key, **common, "arm": arm, "weight": self.given.weight, "at": self.at}))
        if self.measured:
            for metric, value in self._metrics().items():
                found += Outcome(
                    self.experiment, self.unit, arm, metric, value, self.at, self.id, self.pair, self.seed
                ).rows()
        return found

    def _metrics(self) -> dict[str, float]:
        failed = self.failure is not None and self.failure.kind != "caller"
        measured = {"seconds": self.seconds, "error": float(failed or self.served is None)}
        if self.failure is not None and self.failure.kind == "caller":
            # The control failed too: that says nothing about this arm.
            return {}
        if self.content_loss and self.served == self.given.arm:
            measured["content_loss"] = float(self.content_loss[-1])
        return measured


@dataclass(frozen=True)
class Outcome:
    """One number about a unit; fields as in `Observation`, `request` where it is about one request."""

    experiment: str
    unit: str
    arm: str
    metric: str
    value: float
    at: float = field(default_factory=time.time)
    request: str | None = None
    pair: str | None = None
    seed: int | None = None

    def rows(self) -> list[Row]:
        """One measurement, or none where there is no finite number."""
        if not math.isfinite(self.value):
            return []
        names = {name: getattr(self, name) for name in ("experiment", "unit", "arm", "metric")}
        rest = {"value": float(self.value), "request": self.request, "pair": self.pair, "seed": self.seed}
        key = new_id() if self.request is None else derived_id(self.request, self.arm, self.metric)
        return [("measurements", {"id": key, **names, **rest, "at": self.at})]


@dataclass(frozen=True)
class SwitchRecord:
    """The state of an arm, for the other processes of the experiment."""

    experiment: str
    state: SwitchState

    def rows(self) -> list[Row]:
        """One row."""
        state = self.state
        words = {"arm": state.arm, "is_on": state.on, "reason": state.reason[:MESSAGE_LENGTH], "at": state.at}
        return [("switches", {"id": new_id(), "experiment": self.experiment, **words})]
