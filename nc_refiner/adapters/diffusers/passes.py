"""Single passes of a pipeline's call for `PipelineAdapter`: left early, started elsewhere, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from ..runtime import MethodHook, only_here, replaced
from .coefficients import Noising
from .errors import LeavePass
from .session import Recorder
from .sharing import models_restored
from .steps import StepCall, step_hooked

__all__ = ["network_hooked", "run_pass"]


def run_pass(
    pipe: Any,
    arguments: dict[str, Any],
    on_step: Callable[[Recorder, StepCall], Any] | None = None,
    on_noised: Callable[[Noising], Tensor] | None = None,
    inject: Tensor | None = None,
) -> Any:
    """Call `pipe` once, silently; None if a hook left it by `LeavePass`.

    Args:
        pipe, arguments: the pipeline and its call.
        on_step: answers every `scheduler.step`.
        on_noised: answers what is noised.
        inject: latents, as the pipeline noises them, that take the place of its own.
    """
    recorder = Recorder(pipe)

    def noised(noising: Noising) -> Tensor:
        if on_noised is not None:
            return on_noised(noising)
        if inject is not None and len(recorder.noisings) == 1:
            noising.x_t = inject
        return noising.x_t

    try:
        with ExitStack() as stack:
            stack.enter_context(recorder.recording(noised))
            stack.enter_context(replaced(pipe, "_progress_bar_config", {"disable": True}))
            if on_step is not None:
                stack.enter_context(step_hooked(pipe.scheduler, lambda call: on_step(recorder, call)))
            with models_restored(pipe):
                return pipe(**arguments)
    except LeavePass:
        return None


@contextmanager
def network_hooked(
    pipe: Any, count: Callable[[], None], record: list[Any] | None, instead: list[Any]
) -> Iterator[None]:
    """Inside the block, count the denoising network's evaluations, and record or replace its answers; those asked for
    in this thread, for others may be using the same network.

    Args:
        pipe: the pipeline.
        count: called at every evaluation.
        record: collects the answers, if given.
        instead: answers given first, in place of evaluations.
    """
    network = getattr(pipe, "transformer", None) or pipe.unet
    forward, given = network.forward, list(instead)

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        if given:
            return given.pop(0)
        count()
        answer = forward(*args, **kwargs)
        if record is not None:
            record.append(answer)
        return answer

    with replaced(network, "forward", MethodHook(forward, only_here(evaluate, forward))):
        yield
