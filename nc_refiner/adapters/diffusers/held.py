"""A step of the scheduler from a changed estimate: x̂₀ out of the model's output, and back into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .coefficients import start_level
from .errors import NotSDEdit
from .estimates import estimate_x0, implying_output
from .steps import StepCall

__all__ = ["check_can_hold", "stepped_from", "steps_left"]

_MIDPOINTS = ("DPMSolverSDEScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
"""Between two timesteps these ask the model at a noise level that they tell nobody."""
_AVERAGING = ("PNDMScheduler",)
"""Mixes outputs made at several latents, so that an estimate put into one does not come out of the step."""


def check_can_hold(scheduler: Any) -> None:
    """Raise NotSDEdit for a scheduler whose estimates cannot be held."""
    name = type(scheduler).__name__
    if name in _MIDPOINTS + _AVERAGING or not any(hasattr(scheduler, noise) for noise in ("add_noise", "scale_noise")):
        raise NotSDEdit(f"hold is not possible with {name}; use another scheduler (DDIM, Euler, DPM++ 2M), or hold=0")


def steps_left(scheduler: Any, timestep: Any) -> int:
    """How many steps there are from the one at `timestep`, which is the first, to the scheduler's last."""
    scheduled = scheduler.timesteps
    begin = getattr(scheduler, "begin_index", None)
    if begin is None:
        same = (scheduled == torch.as_tensor(timestep).to(scheduled)).nonzero()
        begin = int(same[0]) if len(same) else 0
    return len(scheduled) - int(begin)


def stepped_from(scheduler: Any, call: StepCall, change: Callable[[Tensor], Tensor]) -> Any:
    """Let the scheduler step as if the model had estimated `change(x̂₀)`; as it is where that is the very x̂₀.

    Args:
        scheduler: at this step.
        call: its step.
        change: from the estimate, shaped as `call.sample`, to the one to step from.
    """
    timestep = torch.as_tensor(call.arguments["timestep"], device=call.sample.device).flatten()[:1]
    level = start_level(scheduler, timestep)
    if level is None or level.sigma == 0 or level.alpha == 0:
        return call.really()
    x0 = estimate_x0(scheduler, call.output, call.sample, level)
    changed = change(x0)
    if changed is x0:
        return call.really()
    return call.really_from(call.sample, implying_output(scheduler, call.output, call.sample, changed, level))
