"""ModelScope's base models as sources of clips: text-to-video-synthesis and image-to-video, with explicit seeds."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...clip import VideoClip
from .attention import use_sdpa_where_needed
from .diagnosis import require_modelscope
from .loading import build_pipeline, dtype_for
from .randomness import drawing_from
from .stand_ins import missing_imports_stood_in

__all__ = ["ImageToVideo", "TextToVideo"]

FPS = 8.0
"""What both models are trained for, and what the host writes."""


def _clip(video: Tensor, prompt: str | None, seed: int, made_by: str) -> VideoClip:
    """`(1, 3, F, H, W)` in about [-1, 1] → a clip."""
    frames = (video[0].transpose(0, 1).float().cpu() * 0.5 + 0.5).clamp(0, 1)
    return VideoClip(frames, FPS, prompt, seed, (f"{made_by}, seed {seed}",))


def _generator(seed: int) -> torch.Generator:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}; it must lie in 0…2^63−1")
    return torch.Generator().manual_seed(seed)


class TextToVideo:
    """`pipeline('text-to-video-synthesis', model)` as a function from a prompt to a clip.

    Args:
        model: id on the hub or a folder. Or `pipe`, the pipeline object.
        device: None is CUDA where there is one, else the CPU.
        dtype: precision of the network; None leaves it as it is loaded (float32, autocast to float16 on a GPU).

    Raises:
        ImportError: the stack is missing or broken. TypeError: not exactly one of `model` and `pipe`.
    """

    def __init__(
        self,
        model: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        pipe: Any = None,
    ):
        if (model is None) == (pipe is None):
            raise TypeError("give either `model` (an id or a folder) or `pipe` (a text-to-video pipeline)")
        self.pipe = pipe if model is None else build_pipeline("text-to-video-synthesis", model, device)
        network = self.pipe.model.sd_model
        if dtype is not None:
            network.to(dtype_for(next(network.parameters()).device, dtype))
        # The host tells its text encoder `cuda` whatever it was built for.
        self.pipe.model.clip_encoder.device = self.pipe.model.device

    def __call__(self, prompt: str, seed: int = 0, *, height: int | None = None, width: int | None = None) -> VideoClip:
        """A clip of the model's own number of frames, at 8 fps.

        Args:
            prompt: text.
            seed: 0 ≤ seed < 2⁶³; the global generators are left as found.
            height, width: multiples of 64; None is the model's own 256.

        Raises:
            ValueError: a size or seed out of range.
        """
        height, width = height or 256, width or 256
        if height < 64 or width < 64 or height % 64 or width % 64:
            raise ValueError(f"size is {height}×{width}; height and width must be multiples of 64")
        with torch.no_grad(), drawing_from(_generator(seed)):
            asked = self.pipe.preprocess({"text": prompt, "height": height, "width": width})
            video = self.pipe.forward(asked)["video"]
        return _clip(video, prompt, seed, "text-to-video-synthesis")


def _alias_schedule() -> None:
    """The image-to-video model imports `schedule` from a folder that has `shedule.py`: offer it under both names."""
    folder = "modelscope.models.multi_modal.image_to_video.utils"
    if f"{folder}.schedule" not in sys.modules and find_spec(f"{folder}.schedule") is None:
        sys.modules[f"{folder}.schedule"] = importlib.import_module(f"{folder}.shedule")


class ImageToVideo:
    """`pipeline('image-to-video', model)` as a function from a picture to a clip.

    Args:
        model: id on the hub or a folder. Or `pipe`, the pipeline object.
        device: None is CUDA where there is one, else the CPU.
        dtype: precision of the network; None leaves it as it is loaded (float32, autocast to float16 on a GPU).

    Raises:
        ImportError: the stack is missing or broken. TypeError: not exactly one of `model` and `pipe`.
    """

    def __init__(
        self,
        model: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        pipe: Any = None,
    ):
        if (model is None) == (pipe is None):
            raise TypeError("give either `model` (an id or a folder) or `pipe` (an image-to-video pipeline)")
        if model is not None:
            require_modelscope()
            with missing_imports_stood_in():
                _alias_schedule()
            pipe = build_pipeline("image-to-video", model, device)
        self.pipe = pipe
        network = self.pipe.model.generator
        if dtype is not None:
            network.to(dtype_for(next(network.parameters()).device, dtype))
        use_sdpa_where_needed(network)

    def __call__(self, prompt: str | None, seed: int = 0, *, image: str | os.PathLike[str]) -> VideoClip:
        """A clip that starts from the picture, of the model's own size and number of frames, at 8 fps.

        Args:
            prompt: kept with the clip for the stages that follow; this model takes none.
            seed: 0 ≤ seed < 2⁶³; the global generators are left as found.
            image: path of a picture.

        Raises:
            FileNotFoundError: no such picture. ValueError: seed out of range.
        """
        if not Path(image).is_file():
            raise FileNotFoundError(f"no picture at {os.fspath(image)}")
        with torch.no_grad(), drawing_from(_generator(seed)):
            video = self.pipe.forward(self.pipe.preprocess(os.fspath(image)))["video"]
        return _clip(video, prompt, seed, "image-to-video")
