"""Stable Diffusion's ×4 upscaler, frame by frame, through its diffusers pipeline."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.diffusers.loading import load_pipeline, require_diffusers
from ..naming import one_line
from .restorer import Restorer, padded

__all__ = ["MODEL", "X4Upscaler"]

MODEL = "stabilityai/stable-diffusion-x4-upscaler"


class X4Upscaler(Restorer):
    """A diffusers upscaling pipeline as a rival. It knows nothing of time: each frame is upscaled by itself.

    Every frame starts from the same noise, which is the steadier of two ways and makes a result independent of
    `batch`. The frame is fed at its own size, the picture averaged down by area (`restored`). At full size the pipeline
    decodes 16 times the clip's pixels: where that does not fit, lower `input_scale`; at 0.25 the result has the clip's
    size, and the rival sees a sixteenth of it.

    Args:
        model: name on the hub or a folder, with `options` of `load_pipeline` (`device`, `dtype`, `variant`, …).
        pipe: a loaded pipeline instead of `model`.
        prompt: for every clip; None takes the clip's own, or else an empty one.
        negative_prompt: where the pipeline takes one.
        noise_level: added to the picture first, a step of the pipeline's own schedule (0 to 350 for the published
            model); more invents more.
        guidance_scale, num_inference_steps: as the pipeline takes them; the defaults are its own.
        batch: frames at once.
        input_scale: share of the clip's height and width that is fed.

    Raises:
        TypeError: `pipe` and `model` or `options` together.
        ValueError: a pipeline that takes no picture, or a setting out of range.
        ImportError: diffusers is not installed. OSError: no such weights.
    """

    name = "x4_upscaler"
    seeded = True

    def __init__(
        self,
        model: str | None = None,
        *,
        pipe: Any = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        noise_level: int = 20,
        guidance_scale: float = 9.0,
        num_inference_steps: int = 75,
        batch: int = 1,
        input_scale: float = 1.0,
        **options: Any,
    ):
        if pipe is not None and (model is not None or options):
            raise TypeError("give either `model`, with options for loading, or `pipe` (an object)")
        for name, value in (("batch", batch), ("num_inference_steps", num_inference_steps)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self._model = None if pipe is not None else model or MODEL
        self.pipe = pipe if pipe is not None else _loaded(self._model or MODEL, options)
        if "image" not in inspect.signature(self.pipe.__call__).parameters:
            raise ValueError(f"{type(self.pipe).__name__} takes no picture; give an upscaler, such as {MODEL}")
        self._settings: dict[str, Any] = {
            "negative_prompt": negative_prompt,
            "noise_level": noise_level,
            "guidance_scale": guidance_scale,
            "num_inference_steps": num_inference_steps,
        }
        self._prompt, self._batch, self.input_scale = prompt, batch, input_scale
        self.pipe.set_progress_bar_config(disable=True)

    def restore(self, frames: Tensor, prompt: str | None, seed: int) -> Tensor:
        known = inspect.signature(self.pipe.__call__).parameters
        settings = {name: value for name, value in self._settings.items() if name in known and value is not None}
        text = self._prompt if self._prompt is not None else prompt or ""
        height, width = (int(side) for side in frames.shape[-2:])
        whole = padded(frames, self._multiple())
        found = []
        for part in whole.split(self._batch):
            if "negative_prompt" in settings:
                settings["negative_prompt"] = [str(self._settings["negative_prompt"])] * len(part)
            pictures = self.pipe(
                prompt=[text] * len(part),
                image=part,
                generator=[torch.Generator().manual_seed(seed) for _ in part],
                output_type="pt",
                **settings,
            ).images
            found.append(pictures.to("cpu", torch.float32))
        large = torch.cat(found)
        factor = large.shape[-1] / whole.shape[-1]
        return large[..., : round(height * factor), : round(width * factor)]

    def _multiple(self) -> int:
        """What height and width must be a multiple of, for the pipeline not to resize them itself."""
        unet = getattr(getattr(self.pipe, "unet", None), "config", {})
        halvings = max(0, len(unet.get("block_out_channels", ())) - 1)
        return math.lcm(int(getattr(self.pipe, "vae_scale_factor", 1)), 2**halvings)

    def describe(self) -> dict[str, Any]:
        """Also the weights, by what tells them apart without reading gigabytes: class, name and a few numbers."""
        parameters = [p for part in self.pipe.components.values() if isinstance(part, torch.nn.Module)
                      for p in part.parameters()]  # fmt: skip
        return {
            **super().describe(),
            **self._settings,
            "prompt": self._prompt,
            "pipeline": type(self.pipe).__name__,
            "scheduler": type(self.pipe.scheduler).__name__,
            "model": self._model,
            "parameters": sum(parameter.numel() for parameter in parameters),
            "sampled": [
                float(parameter.detach().flatten()[0]) for parameter in parameters[:: max(1, len(parameters) // 8)]
            ],
            "dtype": str(parameters[0].dtype).removeprefix("torch.") if parameters else None,
        }


def _loaded(model: str, options: dict[str, Any]) -> Any:
    require_diffusers()
    missing = f"x4_upscaler: the weights of {model} are not here"
    advice = f"download them with `hf download {MODEL} --local-dir FOLDER` and give model: FOLDER"
    # diffusers takes for a name on the hub what is no folder, and a name has one slash.
    if model.count("/") != 1 and not Path(model).is_dir():
        raise FileNotFoundError(f"{missing} (no such folder); {advice}")
    try:
        return load_pipeline(model, refining=False, **options)
    except OSError as error:
        why = one_line(error, 300).partition(". ")[0]
        raise OSError(f"{missing} ({why}); {advice}") from error
