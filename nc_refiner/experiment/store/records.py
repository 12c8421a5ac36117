"""What happens in an experiment, and the rows it becomes; rows are made off the request path."""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .database import Row
from .events import Assignment, SwitchState

__all__ = ["Failure", "Outcome", "RequestRecord", "SwitchRecord", "new_id", "plain"]

MESSAGE_LENGTH = 2000


def new_id() -> str:
    """A fresh name for a row, 32 characters."""
    return uuid.uuid4().hex


def derived_id(*parts: str) -> str:
    """A name that the same parts always get, 40 characters."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def plain(value: Any) -> Any:
    """`value` as every database's JSON can hold it: numbers that are not finite become null, odd objects their text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return text(str(value))


def text(value: str) -> str:
    """`value` without what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


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
        arm, common = self.given.arm, {"experiment": text(self.experiment), "unit": text(self.unit)}
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
            "receipt": None if self.receipt is None else plain(self.receipt),
            "at": self.at,
        }
        found: list[Row] = [("requests", request)]
        if self.failure is not None:
            words = {"kind": self.failure.kind, "message": text(self.failure.message)[:MESSAGE_LENGTH]}
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
        names = {name: text(getattr(self, name)) for name in ("experiment", "unit", "arm", "metric")}
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
        words = {"arm": state.arm, "is_on": state.on, "reason": text(state.reason)[:MESSAGE_LENGTH], "at": state.at}
        return [("switches", {"id": new_id(), "experiment": text(self.experiment), **words})]
