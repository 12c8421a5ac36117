"""ModelScope pipelines by name: breakages said first, random state kept, precision fit to the device."""

from __future__ import annotations

from typing import Any

import torch

from ..base import RefinerAdapter
from ..registry import register
from ..runtime import default_device, named_dtype, random_state_kept
from .attention import use_sdpa_where_needed
from .diagnosis import require_modelscope
from .stand_ins import missing_imports_stood_in, name_schedule

__all__ = ["MODEL", "build_pipeline", "dtype_for", "load_pipeline"]

MODEL = "damo/Video-to-Video"


def dtype_for(device: torch.device, dtype: torch.dtype | str | None) -> torch.dtype:
    """The network's precision: float16 (default) or bfloat16 on a GPU, float32 on a CPU.

    Raises:
        ValueError: no such dtype, or half precision on a CPU.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    precision = named_dtype(dtype)
    if device.type == "cpu" and precision != torch.float32:
        raise ValueError(f"dtype is {precision} on the CPU, where this network needs float32; leave dtype out")
    return precision


def build_pipeline(task: str, model: str, device: torch.device | str | None = None) -> Any:
    """`modelscope.pipelines.pipeline(task, model)` with the global random state kept (its construction reseeds it).

    Args:
        task: a ModelScope task.
        model: id on the hub, or a folder in its layout.
        device: None is CUDA where there is one, else the CPU.

    Raises:
        ImportError: the stack is missing or broken; the message names every remedy.
    """
    require_modelscope()
    place = torch.device(device or default_device())
    name = "cpu" if place.type == "cpu" else f"cuda:{place.index or 0}"
    with missing_imports_stood_in(), random_state_kept():
        from modelscope.pipelines import pipeline

        if task == "image-to-video":
            name_schedule()
        return pipeline(task, model, device=name)


def load_pipeline(
    model: str = MODEL, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> Any:
    """`pipeline('video-to-video', model)`, in a precision and with an attention that `device` can run.

    Arguments and errors as `build_pipeline` and `dtype_for`.
    """
    place = torch.device(device or default_device())
    precision = dtype_for(place, dtype)
    pipe = build_pipeline("video-to-video", model, place)
    pipe.model.generator.to(precision)
    use_sdpa_where_needed(pipe.model.generator)
    return pipe


@register("modelscope")
def adapter(
    model: str | None = None,
    pipe: Any = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> RefinerAdapter:
    """ModelScope's MS-Vid2Vid-XL: over `model` (an id or a folder) or over `pipe` (a video-to-video pipeline).

    `options` are those of `ModelScopeAdapter`.

    Raises:
        ImportError: the stack is missing or broken. TypeError: not exactly one of `model` and `pipe`, or a device or
            dtype beside `pipe`.
    """
    if pipe is None:
        require_modelscope()
    from .adapter import ModelScopeAdapter

    if (model is None) == (pipe is None) or (pipe is not None and (device is not None or dtype is not None)):
        raise TypeError("give either `model` (an id or a folder, with device and dtype) or `pipe` (an object)")
    return ModelScopeAdapter(load_pipeline(model, device, dtype) if model is not None else pipe, **options)
