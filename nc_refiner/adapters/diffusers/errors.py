"""What can go wrong between a calibration and a pipeline, and the signals the engines exchange."""

from __future__ import annotations

__all__ = ["InLoopImpossible", "LeavePass", "NotSDEdit", "NothingToCalibrate"]


class NotSDEdit(ValueError):
    """The pipeline, or this call of it, does not start from a noised input; the message says what would work."""


class InLoopImpossible(RuntimeError):
    """The in-loop engine cannot serve this call; `mode="auto"` turns to the replay engine, which can."""


class NothingToCalibrate(BaseException):
    """Raised before the first real step: the low band is empty or α is 0, so a stock run gives the result.

    Not an `Exception`, so that a pipeline that catches those cannot swallow it.
    """


class LeavePass(BaseException):
    """Leaves a pipeline's call from within its first scheduler step; no `Exception` for the same reason."""
