"""From clips to what a pipeline is called with and back: sizes, frames, and the order of latent axes."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from ..base import Requirements
from .support import call_parameters

__all__ = ["LatentAxes", "frame_multiple", "input_name", "pixels", "requirements"]


def input_name(pipe: Any) -> str:
    """The call's argument for what is refined: `video` or `image`."""
    return "video" if "video" in call_parameters(type(pipe)) else "image"


def _network_config(pipe: Any) -> Any:
    network = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    return getattr(network, "config", None)


def _spatial_multiple(pipe: Any) -> int:
    processor = getattr(pipe, "video_processor", None) or getattr(pipe, "image_processor", None)
    processed = int(getattr(getattr(processor, "config", None), "vae_scale_factor", 8))
    compressed = 8
    for name in ("vae_scale_factor_spatial", "vae_scale_factor", "movq_scale_factor"):
        if isinstance(getattr(pipe, name, None), int):
            compressed = getattr(pipe, name)
            break
    patch = getattr(_network_config(pipe), "patch_size", 1)
    patch = patch[-1] if isinstance(patch, (list, tuple)) else patch
    return math.lcm(processed, compressed * int(patch or 1))


def frame_multiple(pipe: Any) -> int:
    """Frames a video VAE folds into one: clips must have a multiple of it, plus one."""
    found = getattr(pipe, "vae_scale_factor_temporal", 1)
    return int(found) if input_name(pipe) == "video" else 1


def requirements(pipe: Any, fixed: dict[str, Any], guided: bool) -> Requirements:
    """What the pipeline can take, read off its signature and configuration.

    Args:
        pipe: a supported pipeline.
        fixed: call arguments that are the same for every clip; embeddings there stand for prompts.
        guided: whether it has classifier-free guidance.
    """
    parameters = call_parameters(type(pipe))

    def default(name: str, other: Any) -> Any:
        value = parameters[name].default if name in parameters else None
        return other if value is None or value is inspect.Parameter.empty else value

    embedded = any(name.endswith("_embeds") for name in fixed)
    multiple = _spatial_multiple(pipe)
    most = getattr(getattr(getattr(pipe, "motion_adapter", None), "config", None), "motion_max_seq_length", None)
    return Requirements(
        max_frames=most if input_name(pipe) == "video" else 1,
        size_multiple=(multiple, multiple),
        default_strength=float(default("strength", 0.6)),
        default_steps=int(default("num_inference_steps", 30)),
        prompt="prompt" in parameters and not embedded,
        negative_prompt="negative_prompt" in parameters and not embedded,
        guidance=guided,
        frame_factor=frame_multiple(pipe),
    )


class LatentAxes:
    """Between the contract's `(1, C, F, H, W)` and the layout a pipeline noises.

    Args:
        noised: latents of a clip of one frame, as the pipeline noised them: `(F, C, H, W)`, `(1, F, C, H, W)` or
            `(1, C, F, H, W)`. A single frame tells the last two apart.

    Raises:
        ValueError: any other shape.
    """

    def __init__(self, noised: Tensor):
        shape = tuple(noised.shape)
        if noised.ndim == 4 and shape[0] == 1:
            self._order = "FCHW"
        elif noised.ndim == 5 and shape[:2] == (1, 1):
            self._order = "BFCHW"
        elif noised.ndim == 5 and shape[0] == shape[2] == 1:
            self._order = "BCFHW"
        else:
            raise ValueError(f"latents of one frame are {shape}; expected one frame of 4 or 5 axes")

    def to_contract(self, x: Tensor) -> Tensor:
        """As the pipeline noises → `(1, C, F, H, W)`."""
        if self._order == "FCHW":
            return x.transpose(0, 1)[None]
        return x.transpose(1, 2) if self._order == "BFCHW" else x

    def to_host(self, x: Tensor) -> Tensor:
        """`(1, C, F, H, W)` → as the pipeline noises."""
        if self._order == "FCHW":
            return x[0].transpose(0, 1)
        return x.transpose(1, 2) if self._order == "BFCHW" else x


def pixels(output: Any, count: int) -> Tensor:
    """A pipeline's frames (`output_type="pt"`) → `(count, 3, H, W)` float32 in [0, 1], on the CPU."""
    frames = output[0] if isinstance(output, (list, tuple)) else output
    if isinstance(frames, Tensor) and frames.ndim == 5:
        frames = frames[0]
    if not isinstance(frames, Tensor) or frames.ndim not in (3, 4):
        raise ValueError(f"the pipeline returned {type(frames).__name__}, not frames; its output cannot be read")
    if frames.ndim == 3:
        frames = frames[None]
    return torch.as_tensor(frames[:count], dtype=torch.float32).cpu().clamp(0, 1)
