"""Pipelines by name: safetensors only, a sensible dtype and device, and the class that can refine."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ..base import RefinerAdapter
from ..registry import register
from ..runtime import default_device, default_dtype, has_xformers_kernel, named_dtype

__all__ = ["default_device", "default_dtype", "load_pipeline", "require_diffusers", "use_xformers"]


def require_diffusers() -> ModuleType:
    """The diffusers module.

    Raises:
        ImportError: not installed; the message says how to install it.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "this refiner needs diffusers, which is not installed: pip install 'nc-refiner[diffusers]'"
        ) from error
    return diffusers


def use_xformers(pipe: Any, device: torch.device) -> bool:
    """Switch `pipe` to xformers' attention if it is installed and has a kernel that runs on `device`.

    Its presence alone says nothing: it imports on machines it has no kernel for. PyTorch's own attention stays
    otherwise. Returns whether it was switched.
    """
    if device.type != "cuda" or not has_xformers_kernel(device, torch.float16, head_dim=32):
        return False
    pipe.enable_xformers_memory_efficient_attention()
    return True


def _refining(pipe: Any) -> Any:
    """`pipe`, or the image-to-image or video-to-video pipeline over the same parts."""
    from .support import VIDEO_TWINS, refusal

    if refusal(type(pipe)) is None:
        return pipe
    diffusers = require_diffusers()
    twin = VIDEO_TWINS.get(type(pipe).__name__)
    if twin is not None:
        return getattr(diffusers, twin).from_pipe(pipe)
    try:
        return diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    except ValueError:
        return pipe  # refused later, with the reason


def load_pipeline(
    model: str,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    variant: str | None = None,
    revision: str | None = None,
    local_files_only: bool | None = None,
    cache_dir: str | None = None,
    token: str | None = None,
    offload: bool = False,
    xformers: bool = False,
    refining: bool = True,
) -> Any:
    """Load a diffusers pipeline, by default as one that can refine.

    Args:
        model: name on the hub or a folder. A text-to-image or text-to-video model becomes its image-to-image or
            video-to-video pipeline over the same weights.
        dtype: None is `default_dtype(device)`; or float32, float16 or bfloat16, as such or by name.
        device: None is CUDA, then MPS, then the CPU.
        variant: for example `fp16`: which of several sets of weights.
        revision: branch, tag or commit on the hub.
        local_files_only: True never asks the hub; None obeys `HF_HUB_OFFLINE`.
        cache_dir, token: as diffusers takes them.
        offload: keep models on the CPU and move each to the device while it runs.
        xformers: use its attention where it has a kernel (`use_xformers`).
        refining: False leaves the pipeline of the class it was saved as.

    Raises:
        ImportError: diffusers is not installed.
        OSError: no such model, or no safetensors weights in it (pickles are never loaded).
        ValueError: no such dtype.
    """
    diffusers = require_diffusers()
    place = torch.device(device) if device is not None else default_device(mps=True)
    precision = default_dtype(place) if dtype is None else named_dtype(dtype)
    options: dict[str, Any] = {
        "variant": variant,
        "revision": revision,
        "local_files_only": local_files_only,
        "cache_dir": cache_dir,
        "token": token,
    }
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        model,
        dtype=precision,
        use_safetensors=True,
        **{name: value for name, value in options.items() if value is not None},
    )
    if refining:
        pipe = _refining(pipe)
    if offload and place.type != "cpu":
        pipe.enable_model_cpu_offload(device=place)
    else:
        pipe.to(place)
    if xformers:
        use_xformers(pipe, place)
    return pipe


@register("diffusers")
def adapter(
    model: str | None = None, pipe: Any = None, call: dict[str, Any] | None = None, **options: Any
) -> RefinerAdapter:
    """The adapter named `diffusers`: over `model` (see `load_pipeline`, which takes `options`) or over `pipe`.

    Raises:
        TypeError: neither or both of `model` and `pipe`, or options beside `pipe`.
    """
    require_diffusers()
    from .pipe_adapter import PipelineAdapter

    if (model is None) == (pipe is None) or (pipe is not None and options):
        raise TypeError("give either `model` (a name or folder, with options for loading) or `pipe` (an object)")
    return PipelineAdapter(load_pipeline(model, **options) if model is not None else pipe, **(call or {}))
