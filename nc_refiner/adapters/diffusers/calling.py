"""A calibrated pipeline: the same object to its user, with another way through `__call__`."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ...calibration import CalibrationTrace, NoiseCalibration
from ..runtime import (
    SCOPES,
    PrivateStream,
    copied,
    generators_in,
    in_scope,
    replaced,
    rewinder,
    scope_of,
    taking_turns,
)
from .engine_in_loop import run_in_loop
from .engine_replay import run_replay
from .errors import InLoopImpossible, NothingToCalibrate
from .sharing import shared_models
from .support import call_parameters, check_call, guidance_argument, keeps_nothing, reason_for_replay

__all__ = [
    "Mode",
    "State",
    "calibrated_class",
    "calibrating",
    "check_mode",
    "plain_copy",
    "plain_scheduler",
    "state_of",
    "stock_class",
    "twin_state",
]

Mode = Literal["auto", "in_loop", "replay"]
STATE = "_nc_refiner"
_KEPT_NOTHING = (
    "strength is 1: nothing of the input is left to be kept, so this is a stock call; use a strength below 1 to refine"
)


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


def twin_state(pipe: Any) -> State | None:
    """The calibration a twin made by `wrap` carries, or None."""
    found = vars(pipe).get(STATE) if hasattr(pipe, "__dict__") else None
    return found if isinstance(found, State) else None


def state_of(pipe: Any) -> State | None:
    """The calibration that counts for a call of `pipe` in this thread, or None.

    That is the innermost `calibrated` block of this thread, else the latest of any thread, else the twin's own.
    """
    found = scope_of(pipe)
    return found if isinstance(found, State) else twin_state(pipe)


@contextmanager
def calibrating(pipe: Any, state: State) -> Iterator[None]:
    """Inside the block `pipe` itself is calibrated as `state` says; blocks may nest and may end in any order."""
    with replaced(pipe, "__class__", calibrated_class(type(pipe))), in_scope(pipe, state):
        yield


def plain_copy(pipe: Any) -> Any:
    """A shallow copy of `pipe`, wrapped or not, that calibrates nothing; its scheduler is its own."""
    plain = copied(pipe)
    plain.__class__ = stock_class(type(pipe))
    for name in (STATE, SCOPES):
        vars(plain).pop(name, None)
    # Not through __setattr__, which would write to a config; the scheduler is of the same class, so it need not.
    vars(plain)["scheduler"] = plain_scheduler(pipe)
    return plain


def plain_scheduler(pipe: Any) -> Any:
    """A deep copy of the pipeline's scheduler, without what a call that runs meanwhile has put on it."""
    return copy.deepcopy(pipe.scheduler)


def _keywords(function: Callable[..., Any], pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name; a wrong one fails as it does in the stock call."""
    signature = inspect.signature(function)
    if any(one.kind is one.VAR_POSITIONAL for one in signature.parameters.values()):
        # A subclass that hands everything on: its base knows what the arguments are called.
        names = list(call_parameters(type(pipe)))
        return {**dict(zip(names, args, strict=False)), **kwargs}
    arguments = dict(signature.bind(pipe, *args, **kwargs).arguments)
    arguments.pop(next(iter(signature.parameters)))
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments


def _settled(config: NoiseCalibration) -> NoiseCalibration:
    """`config` as both engines run it.

    Raises:
        ValueError: it must reuse a prediction that was made under another guidance.
    """
    config = config.settled(config.guidance_scale is None)
    if config.reuse_prediction and config.guidance_scale is not None:
        raise ValueError(
            "guidance_scale and reuse_prediction cannot go together on a diffusers pipeline: the prediction that "
            "would be reused was made under another guidance; drop one of them"
        )
    return config


def _in_loop(pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], state: State) -> Any:
    result, state.trace = run_in_loop(pipe, call, arguments, _settled(state.config))
    state.engine = "in_loop"
    return result


def _replay(pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], state: State) -> Any:
    config, changes = _settled(state.config), {}
    if config.guidance_scale is not None:
        changes[guidance_argument(pipe)] = config.guidance_scale
    result, state.trace = run_replay(pipe, call, arguments, config, changes)
    state.engine = "replay"
    return result


def _by_engine(pipe: Any, call: Callable[..., Any], arguments: dict[str, Any], state: State) -> Any:
    """The calibrated call by the engine that can serve it; the generators in `arguments` are rewound in between."""
    rewind = rewinder(arguments.values())
    reason = None if state.mode == "replay" else reason_for_replay(pipe, arguments, state.config)
    if state.mode == "in_loop" and reason is not None:
        raise InLoopImpossible(f"{type(pipe).__name__}: {reason}; use mode='replay', or mode='auto' which chooses it")
    if state.mode == "replay":
        return _replay(pipe, call, arguments, state)
    if reason is None:
        try:
            return _in_loop(pipe, call, arguments, state)
        except InLoopImpossible as problem:
            if state.mode == "in_loop":
                raise
            reason = str(problem)
            rewind()
    if reason not in state.said:
        state.said.add(reason)
        warnings.warn(f"calibrating {type(pipe).__name__} by replay: {reason}", stacklevel=5)
    return _replay(pipe, call, arguments, state)


def _run(pipe: Any, function: Callable[..., Any], state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    config = state.config
    state.trace, state.engine = CalibrationTrace(), "stock"
    if config.iterations == 0 or config.cutoff == 0:
        return function(pipe, *args, **kwargs)
    arguments = _keywords(function, pipe, args, kwargs)
    check_call(pipe, arguments)
    call = functools.partial(function, pipe)
    if keeps_nothing(pipe, arguments):
        warnings.warn(f"{type(pipe).__name__}: {_KEPT_NOTHING}", stacklevel=4)
        return call(**arguments)
    rewind = rewinder(arguments.values())
    given, private = arguments, None
    if "generator" in call_parameters(type(pipe)) and not any(generators_in([arguments.get("generator")])):
        private = PrivateStream(pipe._execution_device)
        given = {**arguments, "generator": private.generator}
    try:
        result = _by_engine(pipe, call, given, state)
    except NothingToCalibrate:
        state.trace, state.engine = CalibrationTrace(), "stock"
        rewind()
        return call(**arguments)
    if private is not None:
        private.hand_back()
    return result


def stock_class(cls: Any) -> Any:
    """The class a calibrated one was made of; any other is returned as it is."""
    return vars(cls).get("_nc_refiner_stock", cls)


def _blank(cls: Any) -> Any:
    """A pipeline without its attributes, which a copy or an unpickler fills in."""
    return cls.__new__(cls)


def _revived(cls: Any, config: NoiseCalibration, mode: Mode, original: Any) -> Any:
    """A twin without its attributes, likewise."""
    twin = cls.__new__(calibrated_class(cls))
    vars(twin)[STATE] = State(config, mode, original)
    return twin


def calibrated_class(cls: Any) -> Any:
    """A subclass of a pipeline class that differs in `__call__` alone: same name, same signature, same documentation.

    `cls` itself is left as it is. Further attributes: `calibration_trace`, the trace of the latest call. Copies and
    pickles keep the settings. Calls of pipelines that share a model take turns.
    """
    return cls if "_nc_refiner_stock" in vars(cls) else _made_of(cls)


@functools.cache
def _made_of(cls: Any) -> type:
    stock: Callable[..., Any] = cls.__call__

    @functools.wraps(stock)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with taking_turns(shared_models(self)):
            state = state_of(self)
            return stock(self, *args, **kwargs) if state is None else _run(self, stock, state, args, kwargs)

    def calibration_trace(self: Any) -> CalibrationTrace:
        """Content loss per iteration of the latest call; empty before, and where nothing was calibrated."""
        state = state_of(self)
        return CalibrationTrace() if state is None else state.trace

    def reduce(self: Any, protocol: Any) -> Any:
        state = twin_state(self)
        attributes = {name: value for name, value in vars(self).items() if name not in (STATE, SCOPES)}
        if state is None:
            return _blank, (cls,), attributes
        return _revived, (cls, state.config, state.mode, state.original), attributes

    body = {
        "__call__": call,
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__reduce_ex__": reduce,
        "_nc_refiner_stock": cls,
        "calibration_trace": property(calibration_trace),
    }
    return type(cls)(cls.__name__, (cls,), body)
