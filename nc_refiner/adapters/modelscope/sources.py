"""ModelScope's base models as sources of clips: text-to-video-synthesis and image-to-video, with explicit seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...clip import VideoClip
from ..runtime import drawing_from
from .attention import use_sdpa_where_needed, working_attention
from .loading import build_pipeline, dtype_for

__all__ = ["ImageToVideo", "TextToVideo"]

FPS = 8.0
"""What both models are trained for, and what the host writes."""
SIZE = 256
"""Of text-to-video where none is asked for, as the host has it."""


class _Source:
    """A pipeline and its seeded call. Subclasses name the task and the attribute that holds the network."""

    task: ClassVar[str]
    network: ClassVar[str]

    def __init__(
        self,
        model: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        pipe: Any = None,
    ):
        if (model is None) == (pipe is None):
            raise TypeError(f"give either `model` (an id or a folder) or `pipe` (a pipeline({self.task!r}, …))")
        self.pipe = pipe if model is None else build_pipeline(self.task, model, device)
        network = getattr(self.pipe.model, self.network)
        if dtype is not None:
            network.to(dtype_for(next(network.parameters()).device, dtype))
        self._network = network
        if pipe is None:
            use_sdpa_where_needed(network)  # built here, and nobody else's

    def _sample(self, asked: Any, prompt: str | None, seed: int) -> VideoClip:
        """What the pipeline makes of `asked`, `(1, 3, F, H, W)` in about [-1, 1], as a clip."""
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed}; it must lie in 0…2^63−1")
        with (
            torch.no_grad(),
            working_attention(self._network),
            drawing_from(torch.Generator().manual_seed(seed)),
        ):
            video = self.pipe.forward(self.pipe.preprocess(asked))["video"]
        frames = (video[0].transpose(0, 1).float().cpu() * 0.5 + 0.5).clamp(0, 1)
        return VideoClip(frames, FPS, prompt, seed, (f"{self.task}, seed {seed}",))


class TextToVideo(_Source):
    """`pipeline('text-to-video-synthesis', model)` as a function from a prompt to a clip.

    Args:
        model: id on the hub or a folder. Or `pipe`, the pipeline object.
        device: None is CUDA where there is one, else the CPU.
        dtype: precision of the network; None leaves it as it is loaded (float32, autocast to float16 on a GPU).

    Raises:
        ImportError: the stack is missing or broken. TypeError: not exactly one of `model` and `pipe`.
    """

    task, network = "text-to-video-synthesis", "sd_model"

    def __call__(self, prompt: str, seed: int = 0, *, height: int | None = None, width: int | None = None) -> VideoClip:
        """A clip of the model's own number of frames, at 8 fps.

        Args:
            prompt: text.
            seed: 0 ≤ seed < 2⁶³; the global generators are left as found.
            height, width: multiples of 64, for the network halves latents an eighth as large three times; None is the
                model's own 256.

        Raises:
            ValueError: a size or seed out of range.
        """
        height, width = SIZE if height is None else height, SIZE if width is None else width
        if height < 64 or width < 64 or height % 64 or width % 64:
            raise ValueError(f"size is {height}×{width}; height and width must be multiples of 64")
        # The host tells its text encoder `cuda` whatever it was built for.
        self.pipe.model.clip_encoder.device = self.pipe.model.device
        return self._sample({"text": prompt, "height": height, "width": width}, prompt, seed)


class ImageToVideo(_Source):
    """`pipeline('image-to-video', model)` as a function from a picture to a clip; arguments as `TextToVideo`."""

    task, network = "image-to-video", "generator"

    def __call__(self, prompt: str | None, seed: int = 0, *, image: str | os.PathLike[str]) -> VideoClip:
        """A clip that starts from the picture, of the model's own size and number of frames, at 8 fps.

        Args:
            prompt: kept with the clip for the stages that follow; this model takes none.
            seed: 0 ≤ seed < 2⁶³; the global generators are left as found.
            image: path of a picture; the host scales it and cuts its middle square out.

        Raises:
            FileNotFoundError: no such picture. ValueError: seed out of range.
        """
        if not Path(image).is_file():
            raise FileNotFoundError(f"no picture at {os.fspath(image)}")
        return self._sample(os.fspath(image), prompt, seed)
