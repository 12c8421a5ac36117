"""Which arm a unit gets: a salted hash, nothing remembered, the same in every process and Python version."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..store.events import Assignment

__all__ = ["Assignment", "Split", "bucket"]


LONGEST_NAME = 500
"""Characters of an experiment's name: what a database can still index."""


def bucket(salt: str, unit: str) -> float:
    """A number in [0, 1) for `unit`, uniform over units and independent between salts.

    The first 53 bits of SHA-256 over `salt`, a NUL byte and `unit` in UTF-8, as a fraction of 2⁵³: exact in a float,
    the same on every platform, unlike Python's own `hash`.

    >>> bucket("sharper", "user-1")
    0.33032158193078365
    """
    digest = hashlib.sha256(f"{salt}\0{unit}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass(frozen=True)
class Split:
    """How units are shared out among arms.

    A unit passes the holdout, then the layer, then the ramp, each with a hash of its own, and is then given an arm by a
    fourth. So a unit once in stays in, in the same arm, while `ramp` grows or `holdout` shrinks.

    Attributes:
        experiment: its name.
        weights: arm → weight, above 0; the shares are the weights over their sum. The order matters to the hash.
        control: the arm for everyone outside; default: the first.
        salt: default: the experiment's name. Change it to share out afresh.
        ramp: share of units in the experiment, in [0, 1].
        holdout: share of units that no experiment with the same `holdout_name` touches, in [0, 1).
        holdout_name: names a holdout that several experiments share.
        layer: name of a layer; experiments of one layer with slots that do not overlap never share a unit.
        slots: this experiment's part of the layer, `(start, end)` in [0, 1].

    Raises:
        ValueError: out of range.
    """

    experiment: str
    weights: Mapping[str, float]
    control: str = ""
    salt: str = ""
    ramp: float = 1.0
    holdout: float = 0.0
    holdout_name: str = "global"
    layer: str | None = None
    slots: tuple[float, float] = (0.0, 1.0)
    _edges: tuple[tuple[str, float, float], ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.experiment:
            raise ValueError("the experiment has no name; give experiment=…")
        if len(self.experiment) > LONGEST_NAME:
            raise ValueError(
                f"the experiment's name has {len(self.experiment)} characters; the most are {LONGEST_NAME}"
            )
        if not self.weights:
            raise ValueError("there is no arm; give at least a control and one other")
        for arm, weight in self.weights.items():
            if not (isinstance(arm, str) and arm):
                raise ValueError(f"an arm is named {arm!r}; a name is text")
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"weight of {arm} is {weight}; it must be above 0 (leave the arm out to stop it)")
        object.__setattr__(self, "control", self.control or next(iter(self.weights)))
        object.__setattr__(self, "salt", self.salt or self.experiment)
        if self.control not in self.weights:
            raise ValueError(f"control is {self.control!r}; the arms are {', '.join(self.weights)}")
        if not 0 <= self.ramp <= 1:
            raise ValueError(f"ramp is {self.ramp}; it must lie in [0, 1]")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout}; it must lie in [0, 1)")
        start, end = self.slots
        if not 0 <= start < end <= 1:
            raise ValueError(f"slots are {start}…{end}; they must be a part of 0…1, the start below the end")
        if self.layer is None and (start, end) != (0.0, 1.0):
            raise ValueError("slots are given without a layer; name the layer they are a part of")
        total, edge, edges = math.fsum(self.weights.values()), 0.0, []
        for arm, weight in self.weights.items():
            edge += weight / total
            edges.append((arm, edge, weight / total))
        object.__setattr__(self, "_edges", tuple(edges))

    def assign(self, unit: str) -> Assignment:
        """The arm of `unit`; about 5 µs."""
        if self.holdout and bucket(f"holdout/{self.holdout_name}", unit) < self.holdout:
            return Assignment(self.control, "holdout")
        if self.layer is not None:
            start, end = self.slots
            if not start <= bucket(f"layer/{self.layer}", unit) < end:
                return Assignment(self.control, "layer")
        if self.ramp < 1 and bucket(f"{self.salt}/ramp", unit) >= self.ramp:
            return Assignment(self.control, "ramp")
        at = bucket(f"{self.salt}/arm", unit)
        for arm, edge, share in self._edges:
            if at < edge:
                return Assignment(arm, "split", share)
        # Shares that sum to a hair under one leave the last arm the rest.
        arm, _, share = self._edges[-1]
        return Assignment(arm, "split", share)
