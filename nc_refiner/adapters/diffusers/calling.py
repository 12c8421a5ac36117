"""A calibrated pipeline: the same object to its user, with another way through `__call__`."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ...calibration import CalibrationTrace, NoiseCalibration
from .engine_in_loop import run_in_loop
from .engine_replay import run_replay
from .errors import InLoopImpossible, NothingToCalibrate
from .randomness import RandomState
from .support import check_call, guidance_argument, reason_for_replay

__all__ = ["Mode", "State", "calibrated_class", "check_mode", "state_of"]

Mode = Literal["auto", "in_loop", "replay"]
STATE = "_nc_refiner"


@dataclass(eq=False)
class State:
    """What a calibrated pipeline carries.

    Attributes:
        config, mode: as the user asked.
        original: the pipeline this one is a copy of; None inside `calibrated(...)`.
        trace: of the latest call; empty before.
        engine: that served the latest call: `in_loop`, `replay` or `stock`.
    """

    config: NoiseCalibration
    mode: Mode = "auto"
    original: Any = None
    trace: CalibrationTrace = field(default_factory=CalibrationTrace)
    engine: str | None = None
    said: set[str] = field(default_factory=set)


def check_mode(mode: str) -> None:
    """Raises ValueError for an unknown mode."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; allowed: {', '.join(map(repr, get_args(Mode)))}")


def state_of(pipe: Any) -> State | None:
    """The calibration a pipeline carries, or None."""
    found = vars(pipe).get(STATE) if hasattr(pipe, "__dict__") else None
    return found if isinstance(found, State) else None


def _keywords(function: Callable[..., Any], pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name; a wrong one fails as it does in the stock call."""
    signature = inspect.signature(function)
    arguments = dict(signature.bind(pipe, *args, **kwargs).arguments)
    arguments.pop(next(iter(signature.parameters)))
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments


def _in_loop(pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], state: State) -> Any:
    result, state.trace = run_in_loop(pipe, call, arguments, state.config)
    state.engine = "in_loop"
    return result


def _replay(pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], state: State) -> Any:
    changes: dict[str, Any] = {}
    if state.config.guidance_scale is not None:
        if state.config.reuse_prediction:
            raise ValueError(
                "guidance_scale and reuse_prediction cannot go together on a diffusers pipeline: the prediction that "
                "would be reused was made under another guidance; drop one of them"
            )
        changes[guidance_argument(pipe)] = state.config.guidance_scale
    result, state.trace = run_replay(pipe, call, arguments, state.config, changes)
    state.engine = "replay"
    return result


def _run(pipe: Any, function: Callable[..., Any], state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    config = state.config
    state.trace, state.engine = CalibrationTrace(), "stock"
    if config.iterations == 0 or config.cutoff == 0:
        return function(pipe, *args, **kwargs)
    arguments = _keywords(function, pipe, args, kwargs)
    check_call(pipe, arguments)
    call = functools.partial(function, pipe)
    before = RandomState(arguments.values())
    reason = None if state.mode == "replay" else reason_for_replay(pipe, arguments, config)
    if state.mode == "in_loop" and reason is not None:
        raise InLoopImpossible(f"{type(pipe).__name__}: {reason}; use mode='replay', or mode='auto' which chooses it")
    try:
        if state.mode == "replay":
            return _replay(pipe, call, arguments, state)
        if reason is None:
            try:
                return _in_loop(pipe, call, arguments, state)
            except InLoopImpossible as problem:
                if state.mode == "in_loop":
                    raise
                reason = str(problem)
                before.restore()
        if reason not in state.said:
            state.said.add(reason)
            warnings.warn(f"calibrating {type(pipe).__name__} by replay: {reason}", stacklevel=3)
        return _replay(pipe, call, arguments, state)
    except NothingToCalibrate:
        before.restore()
        return call(**arguments)


@functools.cache
def calibrated_class(cls: Any) -> type:
    """A subclass of a pipeline class that differs in `__call__` alone: same name, same signature, same documentation.

    `cls` itself is left as it is. Further attributes: `calibration_trace`, the trace of the latest call.
    """
    if "calibration_trace" in vars(cls):
        return cls
    stock: Callable[..., Any] = cls.__call__

    @functools.wraps(stock)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = state_of(self)
        return stock(self, *args, **kwargs) if state is None else _run(self, stock, state, args, kwargs)

    def calibration_trace(self: Any) -> CalibrationTrace:
        """Content loss per iteration of the latest call; empty before, and where nothing was calibrated."""
        state = state_of(self)
        return CalibrationTrace() if state is None else state.trace

    body = {
        "__call__": call,
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "calibration_trace": property(calibration_trace),
    }
    return type(cls)(cls.__name__, (cls,), body)
