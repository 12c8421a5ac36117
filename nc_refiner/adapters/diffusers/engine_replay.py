"""The reference engine: the pipeline is a black box, left from within its first step and called again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from ...calibration import CalibrationTrace, NoiseCalibration
from .coefficients import Noising
from .errors import LeavePass, NothingToCalibrate, NotSDEdit
from .memo import EncoderMemo
from .patching import replaced
from .randomness import RandomState
from .session import Session, StepCall, step_hooked

__all__ = ["aborting", "run_replay"]


class _Pass:
    """One call of the pipeline, from `latents` (None: from its own) to its end or to its first step."""

    def __init__(self, session: Session, latents: Tensor | None, calibrated: bool):
        self.session, self.latents, self.calibrated = session, latents, calibrated
        self.next: Tensor | None = None
        self.done = False
        self.finished = False

    def open(self) -> bool:
        """Whether this pass is still short of its first real step."""
        return not self.finished

    def on_noised(self, noising: Noising) -> Tensor:
        session = self.session
        if self.latents is None or len(session.noisings) - 1 != session.started.index:
            return noising.x_t
        return session.injected(self.latents)

    def on_step(self, call: StepCall) -> Any:
        if self.finished:
            return call.really()
        if self.latents is None:
            try:
                self.session.begin(call.sample)
            except NothingToCalibrate:  # so far this pass is a stock call, and so it ends
                self.finished = True
                return call.really()
        elif not torch.equal(call.sample, self.latents):
            raise NotSDEdit(
                f"{type(self.session.pipe).__name__} does not repeat itself: the latents given to it at add_noise are "
                "not those at its first step, so it cannot be calibrated; use another scheduler or pipeline"
            )
        if self.calibrated:
            self.finished = True
            return call.really()
        ahead = self.session.advance(call)
        if ahead.output is not None:
            self.finished = True
            return call.really_from(ahead.latents, ahead.output)
        self.next, self.done = ahead.latents.to(call.sample.dtype), ahead.done
        raise LeavePass


@contextmanager
def aborting(pipe: Any) -> Iterator[None]:
    """Undo what a pipeline undoes itself only after its last step: attention processors (PAG) and feature caches."""
    parts: dict[str, Any] = pipe.components
    processors = {name: dict(part.attn_processors) for name, part in parts.items() if hasattr(part, "attn_processors")}
    try:
        yield
    except LeavePass:
        for name, before in processors.items():
            now = parts[name].attn_processors
            if any(now[place] is not processor for place, processor in before.items()):
                parts[name].set_attn_processor(before)
        for part in parts.values():
            if getattr(part, "is_cache_enabled", False):
                part._reset_stateful_cache()
        raise


def run_replay(
    pipe: Any,
    call: Callable[..., Any],
    arguments: dict[str, Any],
    config: NoiseCalibration,
    calibration_arguments: dict[str, Any] | None = None,
) -> tuple[Any, CalibrationTrace]:
    """Call the pipeline once per prediction and once more from the calibrated latents.

    Every pass starts from the same random state, so the last one leaves it as a stock call does. Costs N extra guided
    evaluations like the in-loop engine (fewer with `tolerance` or `reuse_prediction`) and N repeats of whatever the
    pipeline does before its loop, less the encoders, which are remembered.

    Args:
        pipe: the pipeline; instance attributes of it and its parts are replaced during the call and put back.
        call: the class's own `__call__`, bound.
        arguments: keyword arguments of the call.
        config: at least one iteration.
        calibration_arguments: changes to `arguments` while calibrating (a guidance scale); not with reuse.

    Returns:
        What the pipeline returned, and the trace.

    Raises:
        NotSDEdit: see `Session.begin`.
    """
    session, memo = Session(pipe, config), EncoderMemo()
    before = RandomState(arguments.values())
    quiet = {**getattr(pipe, "_progress_bar_config", {}), "disable": True}
    latents: Tensor | None = None
    calibrated = False
    while True:
        one = _Pass(session, latents, calibrated)
        with ExitStack() as stack:
            stack.enter_context(memo.on(pipe))
            stack.enter_context(session.recording(one.on_noised, one.open))
            stack.enter_context(step_hooked(pipe.scheduler, one.on_step))
            if not (calibrated or config.reuse_prediction):
                stack.enter_context(replaced(pipe, "_progress_bar_config", quiet))
            try:
                with aborting(pipe):
                    changed = {} if calibrated else calibration_arguments or {}
                    return call(**{**arguments, **changed}), session.trace
            except LeavePass:
                latents, calibrated = one.next, one.done
        before.restore()
