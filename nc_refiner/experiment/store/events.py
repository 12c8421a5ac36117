"""What the store keeps of an assignment and of a kill switch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Assignment", "SwitchState"]


@dataclass(frozen=True)
class Assignment:
    """What a unit was given.

    Attributes:
        arm: the arm's name.
        reason: `split`: in the experiment. `holdout`, `layer`, `ramp`: kept out by that rule and given the control.
            `flag`: decided by a flag service. `default`: the flag service had no usable answer.
        weight: probability of this arm for a unit of the experiment, in (0, 1]; None where it is not known.
    """

    arm: str
    reason: str
    weight: float | None = None

    @property
    def exposed(self) -> bool:
        """Whether the unit takes part in the experiment."""
        return self.reason in ("split", "flag")


@dataclass(frozen=True)
class SwitchState:
    """The latest state of `arm` (empty: the whole experiment); `at` in seconds since the epoch (UTC)."""

    arm: str
    on: bool
    reason: str
    at: float
