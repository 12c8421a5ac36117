"""What VideoCrafter's network is conditioned on: text, the frame rate and, for image-to-video, an image."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

__all__ = ["Condition", "conditioned"]


@dataclass(frozen=True, eq=False)
class Condition:
    """The keyword dictionaries the host's `apply_model` takes, with and without the prompt; `fps` is in both."""

    positive: dict[str, Any]
    negative: dict[str, Any]


def conditioned(
    model: Any, prompt: str | None, negative_prompt: str | None, fps: int, image: Tensor | None
) -> Condition:
    """Condition for a batch of one, as the host's `batch_ddim_sampling` builds it.

    Args:
        model: the host's model.
        prompt: None is the empty prompt.
        negative_prompt: replaces the host's unconditional text (`uncond_type`: the empty prompt, or zeros).
        fps: the frame rate to condition on (not the container's).
        image: `(3, H, W)` in [0, 1]; needed by, and only by, models with an `embedder`.

    Raises:
        ValueError: an image is missing, or given to a model that takes none.
        RuntimeError: an open_clip that the host's image embedder cannot use.
    """
    wants_image = hasattr(model, "embedder")
    if wants_image and image is None:
        raise ValueError("this is an image-to-video model: give the adapter `image`, a (3, H, W) tensor in [0, 1]")
    if image is not None and not wants_image:
        raise ValueError("this is a text-to-video model, which takes no image; leave `image` out")
    text = model.get_learned_conditioning([prompt or ""])
    if image is not None:
        pixels = 2 * image.to(text.device, torch.float32)[None] - 1
        text = torch.cat([text, _image_embeds(model, pixels).to(text)], dim=1)
    if negative_prompt or model.uncond_type == "empty_seq":
        none = model.get_learned_conditioning([negative_prompt or ""])
    else:
        none = torch.zeros_like(text)
    if wants_image:
        blank = torch.zeros((1, 3, 224, 224), device=text.device)
        none = torch.cat([none, _image_embeds(model, blank).to(none)], dim=1)
    rate = torch.full((1,), fps, dtype=torch.long, device=text.device)
    return Condition({"c_crossattn": [text], "fps": rate}, {"c_crossattn": [none], "fps": rate})


def _image_embeds(model: Any, pixels: Tensor) -> Tensor:
    try:
        found: Tensor = model.get_image_embeds(pixels)
    except AttributeError as error:
        if "input_patchnorm" not in str(error):
            raise
        raise RuntimeError(
            f"VideoCrafter's image embedder is written for open_clip_torch 2.22, and {_open_clip()} is installed: "
            "pip install open_clip_torch==2.22.0, or load the model with VideoCrafterAdapter.from_checkout"
        ) from error
    return found


def _open_clip() -> str:
    try:
        return metadata.version("open_clip_torch")
    except metadata.PackageNotFoundError:
        return "another version"
