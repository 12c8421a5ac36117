"""What is compared, question by question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["QUESTIONS", "TARGETS", "Arm", "Question"]

TARGETS = (0.80, 0.85, 0.90, 0.95)
"""SSIM to the input that is to be kept."""


@dataclass(frozen=True)
class Arm:
    """One way to refine: fields of `NoiseCalibration`; `matched` is SDEdit at the content loss of that arm's output."""

    label: str
    calibration: dict[str, Any] = field(default_factory=dict)
    matched: str | None = None


@dataclass(frozen=True)
class Question:
    """Arms at one strength (a share of the adapter's default) and ν (None: the adapter's default)."""

    title: str
    strength: float
    cutoff: float | None
    arms: tuple[Arm, ...]


def _n(count: int, label: str = "", **more: Any) -> Arm:
    """An arm whose every prediction is its own, as published, unless it says otherwise."""
    return Arm(label or f"N = {count}", {"iterations": count, "reuse_prediction": False, **more})


QUESTIONS = {
    "colour": Question(
        "Colours at N = 10",
        1.5,
        1.0,
        (
            _n(0, "SDEdit"),
            *(_n(count) for count in (1, 3, 10)),
            *(_n(count, f"N = {count}, colour_safe", objective="colour_safe") for count in (3, 10)),
        ),
    ),
    "reuse": Question(
        "The last prediction, used again",
        1.0,
        None,
        tuple(
            arm for count in (1, 2, 3) for arm in (_n(count), _n(count, f"N = {count}, reuse", reuse_prediction=True))
        ),
    ),
    "steady": Question(
        "Steadiness and hold",
        1.0,
        None,
        (
            _n(0, "SDEdit"),
            _n(3),
            Arm("matched SDEdit", matched="N = 3"),
            *(_n(3, f"cutoff_time = {value}", cutoff_time=value) for value in (0.3, 0.6)),
            *(_n(3, f"hold = {value}", hold=value) for value in (0.3, 1.0)),
        ),
    ),
}
