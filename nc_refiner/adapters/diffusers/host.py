"""`wrap`, `unwrap` and `calibrated` for diffusers pipelines; reached through `nc_refiner.wrapping`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...calibration import NoiseCalibration
from ..runtime import SCOPES, copied
from .calling import STATE, Mode, State, calibrated_class, calibrating, check_mode, plain_scheduler, twin_state
from .support import check_pipeline

__all__ = ["calibrated", "settings_of", "unwrap", "wrap"]


def wrap(pipe: Any, config: NoiseCalibration, *, mode: Mode = "auto") -> Any:
    """A calibrated twin of `pipe`: a shallow copy that shares its models and has a scheduler of its own.

    Args:
        pipe: any image-to-image or video-to-video pipeline; stays as it is. A twin gives another twin, with the
            components it has now; `unwrap` of that leads to the same original.
        config: how to calibrate.
        mode: `in_loop`, `replay`, or `auto`: in-loop where it can serve the call.

    Raises:
        NotSDEdit: the pipeline cannot be calibrated.
        ValueError: unknown mode.
    """
    check_mode(mode)
    check_pipeline(pipe)
    carried, cls = twin_state(pipe), type(pipe)
    twin = copied(pipe)
    vars(twin).pop(SCOPES, None)
    # Not through __setattr__, which would write to a config; the scheduler is of the same class, so it need not.
    vars(twin)["scheduler"] = plain_scheduler(pipe)
    vars(twin)[STATE] = State(config, mode, original=pipe if carried is None else carried.original)
    twin.__class__ = calibrated_class(cls)
    return twin


def settings_of(pipe: Any) -> tuple[NoiseCalibration, dict[str, Any]] | None:
    """The configuration and the options a twin was wrapped with; None for what is no twin."""
    state = twin_state(pipe)
    return None if state is None else (state.config, {"mode": state.mode})


def unwrap(pipe: Any) -> Any:
    """The very pipeline that `wrap` was given; one that is not wrapped is returned as it is.

    It is the object of then: a scheduler or a model put on the twin since is not on it, while what was loaded into a
    model they share (LoRA, IP-Adapter) is in both.
    """
    state = twin_state(pipe)
    return pipe if state is None or state.original is None else state.original


@contextmanager
def calibrated(pipe: Any, config: NoiseCalibration, *, mode: Mode = "auto") -> Iterator[Any]:
    """Inside the block `pipe` itself is calibrated; afterwards its class and attributes are what they were.

    Arguments and errors as `wrap`. Yields `pipe`. Blocks may be nested: the innermost counts; and a thread's own block
    before another thread's.
    """
    check_mode(mode)
    check_pipeline(pipe)
    with calibrating(pipe, State(config, mode)):
        yield pipe
