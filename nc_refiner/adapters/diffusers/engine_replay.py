"""The reference engine: the pipeline is a black box, left from within its first step and called again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from ...calibration import CalibrationTrace, NoiseCalibration
from ..runtime import replaced, rewinder
from .coefficients import Noising
from .errors import LeavePass, NotSDEdit
from .memo import EncoderMemo
from .progress import CallProgress
from .session import Session
from .sharing import models_restored
from .steps import StepCall, step_hooked

__all__ = ["run_replay"]


class _Pass:
    """One call of the pipeline, from `latents` (None: from its own) to its end or to its first step."""

    def __init__(self, session: Session, progress: CallProgress | None, calibrated: bool):
        self.session, self.progress, self.calibrated = session, progress, calibrated
        self.done = False
        self.finished = False

    def open(self) -> bool:
        """Whether this pass is still short of its first real step."""
        return not self.finished

    def on_noised(self, noising: Noising) -> Tensor:
        session = self.session
        if session.expected is None:
            session.check_worth_it(noising)
        elif len(session.noisings) - 1 == session.started.index:
            return session.injected(session.expected)
        return noising.x_t

    def _last(self) -> None:
        self.finished = True
        if self.progress is not None:
            self.progress.satisfied()
            self.progress.follows = True

    def on_step(self, call: StepCall) -> Any:
        if self.finished:
            return self.session.step(call)
        if not self.session.arrives(call.sample):
            raise NotSDEdit(
                f"{type(self.session.pipe).__name__} does not repeat itself: the latents given to it at add_noise are "
                "not those at its first step, so it cannot be calibrated; use another scheduler or pipeline, and see "
                "that all its randomness comes from the generator it is given"
            )
        if self.calibrated:
            self._last()
            return self.session.step(call)
        ahead = self.session.advance(call)
        if ahead.output is not None:
            self._last()
            return self.session.step(call.moved(ahead.latents, ahead.output))
        self.session.expect(ahead.latents, call.sample.dtype)
        if self.progress is not None:
            self.progress.predicted()
        self.done = ahead.done
        raise LeavePass


def run_replay(
    pipe: Any,
    call: Callable[..., Any],
    arguments: dict[str, Any],
    config: NoiseCalibration,
    calibration_arguments: dict[str, Any] | None = None,
) -> tuple[Any, CalibrationTrace]:
    """Call the pipeline once per prediction and once more from the calibrated latents.

    Every pass starts from the same state of the generators in `arguments`, so the last one leaves them as a stock call
    does; global random states are neither read nor set back. Costs N extra guided evaluations like the in-loop engine
    (fewer with `tolerance` or `reuse_prediction`) and N repeats of whatever the pipeline does before its loop, less
    the encoders, which are remembered.

    Args:
        pipe: the pipeline; instance attributes of it and its parts are replaced during the call and put back.
        call: the class's own `__call__`, bound.
        arguments: keyword arguments of the call.
        config: settled, at least one iteration.
        calibration_arguments: changes to `arguments` while calibrating (a guidance scale); not with reuse.

    Returns:
        What the pipeline returned, and the trace.

    Raises:
        NothingToCalibrate: the low band is empty or α is 0; before any evaluation, the generators have then moved.
        NotSDEdit: see `Session.arrives`.
    """
    session, memo = Session(pipe, config, arguments), EncoderMemo()
    rewind = rewinder(arguments.values())
    progress = None
    if hasattr(pipe, "progress_bar"):
        progress = CallProgress(pipe.progress_bar, config.iterations - (1 if config.reuse_prediction else 0))
    calibrated = False
    try:
        while True:
            one = _Pass(session, progress, calibrated)
            with ExitStack() as stack:
                stack.enter_context(memo.on(pipe))
                stack.enter_context(session.recording(one.on_noised, one.open))
                stack.enter_context(step_hooked(pipe.scheduler, one.on_step))
                if progress is not None:
                    stack.enter_context(replaced(pipe, "progress_bar", progress))
                try:
                    with models_restored(pipe):
                        changed = {} if calibrated else calibration_arguments or {}
                        return call(**{**arguments, **changed}), session.trace
                except LeavePass:
                    calibrated = one.done
            rewind()
    finally:
        if progress is not None:
            progress.close()
