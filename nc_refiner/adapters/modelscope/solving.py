"""Calls into the host's diffusion object: one guided estimate, and its solver from start to end."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from ...holding import Hold
from ...noise_level import NoiseLevel

__all__ = ["CalibrateAt", "check_calibrate_at", "estimate_x0", "level_at", "run_solver"]

CalibrateAt = Literal["network_input", "x_t"]
"""Where x̂₀ is asked for while calibrating: at `σ·x_t`, which the host's solver feeds its network first, or at `x_t`."""


def check_calibrate_at(value: str) -> CalibrateAt:
    """`value`, if it is one of `CalibrateAt`; else ValueError."""
    if value not in get_args(CalibrateAt):
        raise ValueError(f"calibrate_at is {value!r}; allowed: {', '.join(get_args(CalibrateAt))}")
    return cast(CalibrateAt, value)


def level_at(diffusion: Any, timestep: int) -> NoiseLevel:
    """α and σ at a timestep, from the host's own tables."""
    return NoiseLevel(float(diffusion.alphas[timestep]), float(diffusion.sigmas[timestep]))


def estimate_x0(
    diffusion: Any, x_t: Tensor, timestep: int, at: CalibrateAt, model: Any, model_kwargs: Any, **guidance: Any
) -> Tensor:
    """The host's x̂₀ after guidance and rescale, at `x_t` or at the `σ·x_t` its solver would feed the network."""
    point = x_t * float(diffusion.sigmas[timestep]) if at == "network_input" else x_t
    t = torch.full((len(x_t),), timestep, dtype=torch.long, device=x_t.device)
    found: Tensor = diffusion.denoise(point, t, None, model, model_kwargs, **guidance)[-2]
    return found


def run_solver(
    diffusion: Any,
    x_t: Tensor,
    model: Any,
    options: dict[str, Any],
    first_x0: Tensor | None = None,
    on_call: Callable[[], None] | None = None,
    hold: Hold | None = None,
) -> Tensor:
    """`diffusion.sample` from `x_t`, with the solver's own arguments in `options`.

    `first_x0` stands in for the first estimate; `on_call` is called after each; `hold` changes each, by the timestep it
    is made at. `diffusion` itself is left alone.
    """
    if first_x0 is None and on_call is None and hold is None:
        return cast(Tensor, diffusion.sample(x_t, model, **options))
    watched = copy.copy(diffusion)
    waiting = [] if first_x0 is None else [first_x0]
    reached: list[int] = []
    """Timesteps seen so far, each once: a solver may ask twice at one."""
    steps = 0 if hold is None else _steps(diffusion, options)

    def denoise(xt: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The solver reads only the last but one of (mu, var, log_var, x0, eps).
        found = (None, None, None, waiting.pop(), None) if waiting else diffusion.denoise(xt, t, *args, **kwargs)
        if hold is not None:
            timestep = int(t.flatten()[0])
            if timestep not in reached:
                reached.append(timestep)
            found = (*found[:-2], hold(found[-2], len(reached) - 1, steps), found[-1])
        if on_call is not None:
            on_call()
        return found

    watched.denoise = denoise
    return cast(Tensor, watched.sample(x_t, model, **options))


def _steps(diffusion: Any, options: dict[str, Any]) -> int:
    """How many steps the solver makes."""
    if options.get("steps") is not None:
        return int(options["steps"])
    parameter = inspect.signature(diffusion.sample).parameters.get("steps")
    if parameter is None or not isinstance(parameter.default, int):
        raise ValueError("hold needs to know the number of steps; give the solver `steps`, or use hold=0")
    return parameter.default
