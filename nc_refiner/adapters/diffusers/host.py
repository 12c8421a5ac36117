"""`wrap`, `unwrap` and `calibrated` for diffusers pipelines; reached through `nc_refiner.wrapping`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...calibration import NoiseCalibration
from .calling import STATE, Mode, State, calibrated_class, check_mode, state_of
from .patching import replaced
from .support import check_pipeline

__all__ = ["calibrated", "unwrap", "wrap"]


def wrap(pipe: Any, config: NoiseCalibration, *, mode: Mode = "auto") -> Any:
    """A calibrated twin of `pipe`: a shallow copy that shares its models and has a scheduler of its own.

    Args:
        pipe: any image-to-image or video-to-video pipeline; stays as it is. An already wrapped one is wrapped anew.
        config: how to calibrate.
        mode: `in_loop`, `replay`, or `auto`: in-loop where it can serve the call.

    Raises:
        NotSDEdit: the pipeline cannot be calibrated.
        ValueError: unknown mode.
    """
    check_mode(mode)
    pipe = unwrap(pipe)
    check_pipeline(pipe)
    twin = copy.copy(pipe)
    # Not through __setattr__, which would write to a config; the scheduler is of the same class, so it need not.
    vars(twin)["scheduler"] = copy.deepcopy(pipe.scheduler)
    vars(twin)[STATE] = State(config, mode, original=pipe)
    cls: Any = type(pipe)
    twin.__class__ = calibrated_class(cls)
    return twin


def unwrap(pipe: Any) -> Any:
    """The pipeline that `wrap` was given; one that is not wrapped is returned as it is."""
    state = state_of(pipe)
    return pipe if state is None or state.original is None else state.original


@contextmanager
def calibrated(pipe: Any, config: NoiseCalibration, *, mode: Mode = "auto") -> Iterator[Any]:
    """Inside the block `pipe` itself is calibrated; afterwards its class and attributes are what they were.

    Arguments and errors as `wrap`. Yields `pipe`. Blocks may be nested: the innermost counts.
    """
    check_mode(mode)
    check_pipeline(pipe)
    original_class: Any = type(pipe)
    if state_of(pipe) is None:
        pipe.__class__ = calibrated_class(original_class)
    previous = state_of(pipe)
    state = State(config, mode, original=None if previous is None else previous.original)
    try:
        with replaced(pipe, STATE, state):
            yield pipe
    finally:
        pipe.__class__ = original_class
