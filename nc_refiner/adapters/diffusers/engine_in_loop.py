"""The fast engine: the first timestep stands in the pipeline's own list N extra times, and those steps calibrate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ...calibration import CalibrationTrace, NoiseCalibration
from ..runtime import replaced
from .coefficients import Noising, start_level
from .errors import InLoopImpossible, NothingToCalibrate
from .progress import CallProgress
from .session import Session
from .sharing import models_restored
from .steps import StepCall, step_hooked

__all__ = ["run_in_loop"]

_CALLBACK = "callback_on_step_end"


class _InLoop:
    """The hooks of one in-loop call, and the little state they share."""

    def __init__(self, pipe: Any, config: NoiseCalibration, arguments: dict[str, Any]):
        self.pipe, self.session = pipe, Session(pipe, config, arguments)
        self.wanted = config.iterations - (1 if config.reuse_prediction else 0)
        self.extra: int | None = None
        """Extra steps in the pipeline's list; None until it asks for its timesteps: only then are steps ours."""
        self.steps_seen = 0
        self.real_steps = 0
        self.finished = False
        self.length = 0
        self.order = int(getattr(pipe.scheduler, "order", 1))
        self.progress: CallProgress | None = None

    def get_timesteps(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def extended(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            if self.extra is not None:
                raise InLoopImpossible("the pipeline asks for its timesteps more than once")
            place = self._place(found)
            timesteps = found[place]
            level = start_level(self.pipe.scheduler, timesteps[0]) if len(timesteps) else None
            # At α = 0 calibration can do nothing, so the list stays as it is; the core says so at the first step.
            self.extra = 0 if level is None or level.alpha < 1e-6 else self.wanted
            self.length = len(timesteps)
            longer = torch.cat([timesteps[:1]] * self.extra + [timesteps])
            return (*found[:place], longer, *found[place + 1 :])

        return extended

    def _place(self, found: Any) -> int:
        """Which of the values of get_timesteps are the timesteps: those the scheduler's own list ends with."""
        scheduled = self.pipe.scheduler.timesteps
        for place, value in enumerate(found if isinstance(found, tuple) else ()):
            if isinstance(value, Tensor) and value.ndim == 1 and len(value) <= len(scheduled):
                tail = scheduled[len(scheduled) - len(value) :]
                if torch.equal(value.to(tail.device, tail.dtype), tail):
                    return place
        raise InLoopImpossible("the pipeline's get_timesteps does not return the end of the scheduler's timesteps")

    def show(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The pipeline's `progress_bar`: how many steps there are is known only when it asks for its bar."""

        @functools.wraps(original)
        def progress_bar(*args: Any, **kwargs: Any) -> Any:
            if self.extra is None:
                return original(*args, **kwargs)
            if self.progress is None:
                # Higher orders take a step in several evaluations, and pipelines count the steps.
                steps = -(-self.length // self.order)
                self.progress = CallProgress(original, self.extra, lambda total: steps)
            return self.progress(*args, **kwargs)

        return progress_bar

    def on_noised(self, noising: Noising) -> Tensor:
        # Inpainting noises the known part of the picture again after every step, for the timestep that comes next:
        # in an extra step that is the same one, and the calibrated latents are the answer that changes nothing.
        expected = self.session.expected
        calibrating = self.extra is not None and 0 < self.steps_seen <= self.extra
        if calibrating and expected is not None and noising.x_t.shape == expected.shape:
            return expected
        if self.steps_seen == 0 and self.extra:
            self.session.check_worth_it(noising)
        return noising.x_t

    def _really(self, call: StepCall) -> Any:
        answer = self.session.step(call, self.length)
        self.real_steps += 1
        if self.progress is not None and (self.real_steps % self.order == 0 or self.real_steps == self.length):
            self.progress.tick()
        return answer

    def on_step(self, call: StepCall) -> Any:
        if self.finished:
            return self._really(call)
        if self.extra is None:
            raise InLoopImpossible("the pipeline never asked for its timesteps through get_timesteps")
        self.steps_seen += 1
        if self.steps_seen == 1:
            self._hide_extra_steps()
        try:
            arrived = self.session.arrives(call.sample)
        except NothingToCalibrate:
            if self.extra:
                raise
            self.finished = True
            return self._really(call)
        if not arrived:
            raise InLoopImpossible("the pipeline changes the latents between its steps")
        if self.steps_seen > self.session.config.iterations:
            self.finished = True
            return self._really(call)
        ahead = self.session.advance(call)
        output = ahead.output
        if output is not None:
            self.finished = True
            return self._really(call.moved(ahead.latents, output))
        if self.progress is not None:
            self.progress.predicted()
        return call.answer(self.session.expect(ahead.latents, call.sample.dtype))

    def _hide_extra_steps(self) -> None:
        """`pipe.num_timesteps` is public: let it tell the number of real steps."""
        if self.extra and getattr(self.pipe, "_num_timesteps", None) is not None:
            self.pipe._num_timesteps = min(self.pipe._num_timesteps - self.extra, self.length)

    def callback(self, users: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        @functools.wraps(users)
        def shifted(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            extra = self.extra or 0
            return {} if index < extra else users(pipe, index - extra, timestep, tensors)

        return shifted


def run_in_loop(
    pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], config: NoiseCalibration
) -> tuple[Any, CalibrationTrace]:
    """Call the pipeline once, calibrating in its own loop: exactly N extra guided evaluations (N − 1 with reuse).

    Args:
        pipe: the pipeline; instance attributes of it and its scheduler are replaced during the call and put back.
        call: the class's own `__call__`, bound.
        arguments: keyword arguments of the call.
        config: settled, at least one iteration; no `guidance_scale` and no `tolerance`, which it cannot honour.

    Returns:
        What the pipeline returned, and the trace.

    Raises:
        InLoopImpossible: before the first real step; the random state has then moved.
        NothingToCalibrate: the low band is empty, which shows when the pipeline's list is already longer.
        NotSDEdit: see `Session.arrives`.
    """
    original = getattr(pipe, "get_timesteps", None)
    if original is None:
        raise InLoopImpossible("the pipeline has no get_timesteps")
    loop = _InLoop(pipe, config, arguments)
    users = arguments.get(_CALLBACK)
    if users is not None:
        arguments = {**arguments, _CALLBACK: loop.callback(users)}
    with ExitStack() as stack:
        stack.enter_context(models_restored(pipe))
        stack.enter_context(loop.session.recording(loop.on_noised, lambda: not loop.finished))
        stack.enter_context(step_hooked(pipe.scheduler, loop.on_step))
        stack.enter_context(replaced(pipe, "get_timesteps", loop.get_timesteps(original)))
        if hasattr(pipe, "progress_bar"):
            stack.enter_context(replaced(pipe, "progress_bar", loop.show(pipe.progress_bar)))
        try:
            result = call(**arguments)
        finally:
            if loop.progress is not None:
                loop.progress.close()
    return result, loop.session.trace
