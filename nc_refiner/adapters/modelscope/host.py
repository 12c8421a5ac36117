"""`wrap`, `unwrap` and `calibrated` for ModelScope's `pipeline('video-to-video', …)`."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...calibration import CalibrationTrace, NoiseCalibration
from .attention import use_sdpa_where_needed
from .calibrated_diffusion import CalibratedDiffusion
from .diagnosis import FFMPEG_MISSING
from .solving import CalibrateAt, check_calibrate_at

__all__ = ["calibrated", "calibrated_model", "check_pipeline", "runnable", "unwrap", "wrap"]

_ORIGINAL = "_nc_refiner_original"
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
    """A shallow copy of `model` that shares its networks and calibrates; `owner.calibration_trace` is kept current."""

    def on_trace(trace: CalibrationTrace) -> None:
        vars(owner)["calibration_trace"] = trace

    twin = copy.copy(model)
    diffusion = model.diffusion
    original = diffusion._diffusion if isinstance(diffusion, CalibratedDiffusion) else diffusion
    twin.diffusion = CalibratedDiffusion(original, config, calibrate_at, on_trace)
    runnable(twin)
    return twin


def runnable(model: Any) -> None:
    """Give `model` an attention its device has; raise ValueError for half precision on a CPU, which cannot run."""
    parameter = next(iter(model.generator.parameters()), None)
    if parameter is not None and parameter.device.type == "cpu" and parameter.dtype == torch.float16:
        raise ValueError(
            "the network is in half precision on the CPU, where it cannot run; call pipe.model.generator.float() first"
        )
    use_sdpa_where_needed(model.generator)


def _install(pipe: Any, model: Any) -> None:
    kept = vars(pipe)
    kept["model"], kept["models"], kept["calibration_trace"] = model, [model], CalibrationTrace()

    def process(input: Any, *args: Any, **kwargs: Any) -> Any:
        target = (kwargs.get("postprocess_params") or {}).get("output_video")
        if shutil.which("ffmpeg") is None:
            raise FileNotFoundError(FFMPEG_MISSING)
        before = _stamp(target)
        result = type(pipe)._process_single(pipe, input, *args, **kwargs)
        if target is not None and _stamp(target) in (None, before):
            raise RuntimeError(f"ModelScope wrote no video to {target}; does its folder exist, has ffmpeg x264?")
        return result

    kept["_process_single"] = process


def _stamp(path: Any) -> tuple[int, int] | None:
    if path is None or not Path(path).is_file():
        return None
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_ino


def wrap(pipe: Any, config: NoiseCalibration, *, calibrate_at: str = "x_t") -> Any:
    """A calibrated twin of `pipe`: a shallow copy that shares its networks; the call and its output are the same.

    Args:
        pipe: `pipeline('video-to-video', …)`; stays as it is but for attention without a kernel on its device, which
            becomes PyTorch's own. An already wrapped one is wrapped anew.
        config: how to calibrate.
        calibrate_at: `x_t`, or `network_input` (σ·x_t, what the host's solver feeds its network first).

    The host's use of the global generators is unchanged. A call raises FileNotFoundError before the work where ffmpeg
    is missing, and RuntimeError where no video came out; the host itself returns a path to nothing.

    Raises:
        ValueError: not such a pipeline, an unknown `calibrate_at`, or half precision on a CPU.
    """
    at = check_calibrate_at(calibrate_at)
    pipe = unwrap(pipe)
    check_pipeline(pipe)
    twin = copy.copy(pipe)
    _install(twin, calibrated_model(pipe.model, config, at, twin))
    vars(twin)[_ORIGINAL] = pipe
    return twin


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
    before = dict(vars(pipe))
    try:
        _install(pipe, calibrated_model(pipe.model, config, at, pipe))
        yield pipe
    finally:
        for name in ("model", "models", "calibration_trace", "_process_single"):
            vars(pipe).pop(name, None)
            if name in before:
                vars(pipe)[name] = before[name]
