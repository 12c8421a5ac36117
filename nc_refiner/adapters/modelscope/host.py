"""`wrap`, `unwrap` and `calibrated` for ModelScope's `pipeline('video-to-video', …)`."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ...calibration import CalibrationTrace, NoiseCalibration
from ..runtime import SCOPES, copied, in_scope, replaced, scope_of
from .calibrated_diffusion import CalibratedDiffusion
from .diagnosis import FFMPEG_MISSING
from .solving import CalibrateAt, check_calibrate_at

__all__ = [
    "calibrated",
    "calibrated_model",
    "check_pipeline",
    "check_target",
    "plain_diffusion",
    "runnable",
    "settings_of",
    "unwrap",
    "wrap",
]

_ORIGINAL, _SETTINGS = "_nc_refiner_original", "_nc_refiner_settings"
_MODEL_PARTS = ("diffusion", "generator", "autoencoder", "clip_encoder", "negative_y")


def check_pipeline(pipe: Any) -> None:
    """Raise ValueError unless `pipe` holds a model of the MS-Vid2Vid-XL kind."""
    model = getattr(pipe, "model", None)
    missing = [name for name in _MODEL_PARTS if not hasattr(model, name)]
    missing += [
        f"diffusion.{name}"
        for name in ("diffuse", "denoise", "sample")
        if not hasattr(getattr(model, "diffusion", None), name)
    ]
    if missing:
        raise ValueError(
            f"{type(pipe).__name__} cannot be calibrated: its model has no {', '.join(missing)}. "
            "Use pipeline('video-to-video', 'damo/Video-to-Video')"
        )


def calibrated_model(model: Any, config: NoiseCalibration, calibrate_at: CalibrateAt, owner: Any) -> Any:
    """A shallow copy of `model` that shares its networks and calibrates; `owner.calibration_trace` is kept current.

    Inside `calibrated(owner)` the settings of that block count, each thread's own.
    """

    def on_trace(trace: CalibrationTrace) -> None:
        vars(owner)["calibration_trace"] = trace

    def settings() -> tuple[NoiseCalibration, CalibrateAt]:
        found: tuple[NoiseCalibration, CalibrateAt] = scope_of(owner) or (config, calibrate_at)
        return found

    runnable(model)
    twin = copy.copy(model)
    twin.diffusion = CalibratedDiffusion(plain_diffusion(model), settings, on_trace)
    return twin


def plain_diffusion(model: Any) -> Any:
    """The host's own diffusion object of a model, calibrated or not."""
    diffusion = model.diffusion
    return diffusion._diffusion if isinstance(diffusion, CalibratedDiffusion) else diffusion


def runnable(model: Any) -> None:
    """Raise ValueError for half precision on a CPU, which cannot run."""
    parameter = next(iter(model.generator.parameters()), None)
    if parameter is not None and parameter.device.type == "cpu" and parameter.dtype == torch.float16:
        raise ValueError(
            "the network is in half precision on the CPU, where it cannot run; call pipe.model.generator.float() first"
        )


def _installed(pipe: Any, model: Any) -> dict[str, Any]:
    """The attributes with which `pipe` runs `model` and looks after its output."""

    def process(input: Any, *args: Any, **kwargs: Any) -> Any:
        target = (kwargs.get("postprocess_params") or {}).get("output_video")
        if shutil.which("ffmpeg") is None:
            raise FileNotFoundError(FFMPEG_MISSING)
        check_target(target)
        before = _stamp(target)
        result = type(pipe)._process_single(pipe, input, *args, **kwargs)
        if target is not None and _stamp(target) in (None, before):
            raise RuntimeError(f"ModelScope wrote no video to {target}; has ffmpeg x264?")
        return result

    return {"model": model, "models": [model], "calibration_trace": CalibrationTrace(), "_process_single": process}


_SHELL = set(" \t\n\"'`$&|;<>()*?[]#~\\!{}")


def check_target(path: Any, shell: bool = True) -> None:
    """Refuse, before any work, a path that no video can be written to.

    Args:
        path: None is a temporary file of the host's.
        shell: also refuse characters that the host's command line for ffmpeg would take apart.

    Raises:
        FileNotFoundError: its folder does not exist. PermissionError: nothing can be written there.
        ValueError: a character the host cannot handle.
    """
    if path is None:
        return
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; create it, or name another output_video")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"nothing can be written to the folder {target.parent}; name another output_video")
    odd = sorted(_SHELL & set(os.fspath(path))) if shell else []
    if odd:
        raise ValueError(
            f"output_video is {os.fspath(path)!r}: ModelScope hands it to a shell, where {odd[0]!r} breaks it; "
            "choose a path of letters, digits, '-', '_', '.' and '/'"
        )


def _stamp(path: Any) -> tuple[int, int] | None:
    if path is None or not Path(path).is_file():
        return None
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_ino


def wrap(pipe: Any, config: NoiseCalibration, *, calibrate_at: str = "x_t") -> Any:
    """A calibrated twin of `pipe`: a shallow copy that shares its networks; the call and its output are the same.

    Args:
        pipe: `pipeline('video-to-video', …)`; stays as it is. During a call, attention without a kernel on its device
            is PyTorch's own. A twin gives another twin of the same original.
        config: how to calibrate.
        calibrate_at: `x_t`, or `network_input` (σ·x_t, what the host's solver feeds its network first).

    The host's use of the global generators is unchanged. A call raises FileNotFoundError before the work where ffmpeg
    is missing or a path cannot be written (`check_target`), and RuntimeError where no video came out; the host itself
    returns a path to nothing.

    Raises:
        ValueError: not such a pipeline, an unknown `calibrate_at`, or half precision on a CPU.
    """
    at = check_calibrate_at(calibrate_at)
    check_pipeline(pipe)
    twin = copied(pipe)
    vars(twin).pop(SCOPES, None)
    vars(twin).update(_installed(twin, calibrated_model(pipe.model, config, at, twin)))
    vars(twin)[_ORIGINAL], vars(twin)[_SETTINGS] = unwrap(pipe), (config, at)
    return twin


def settings_of(pipe: Any) -> tuple[NoiseCalibration, dict[str, Any]] | None:
    """The configuration and the options a twin was wrapped with; None for what is no twin."""
    found = vars(pipe).get(_SETTINGS)
    return None if found is None else (found[0], {"calibrate_at": found[1]})


def unwrap(pipe: Any) -> Any:
    """The pipeline that `wrap` was given; one that is not wrapped is returned as it is."""
    return vars(pipe).get(_ORIGINAL, pipe)


@contextmanager
def calibrated(pipe: Any, config: NoiseCalibration, *, calibrate_at: str = "x_t") -> Iterator[Any]:
    """Inside the block `pipe` itself is calibrated; afterwards its attributes are what they were. Blocks may nest.

    Arguments and errors as `wrap`. Yields `pipe`.
    """
    at = check_calibrate_at(calibrate_at)
    check_pipeline(pipe)
    with ExitStack() as stack:
        for name, value in _installed(pipe, calibrated_model(pipe.model, config, at, pipe)).items():
            stack.enter_context(replaced(pipe, name, value))
        stack.enter_context(in_scope(pipe, (config, at)))
        yield pipe
