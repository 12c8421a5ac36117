"""`base: embedded`: a clip sampled from the embedded model, so that a whole cascade runs where nothing is installed."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from ...adapters.embedded import EmbeddedRefiner
from ...clip import VideoClip
from ...refining.windows import frame_noise
from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

__all__ = ["EmbeddedOptions", "EmbeddedStage"]


class EmbeddedOptions(StageOptions):
    """What is sampled.

    Attributes:
        frames: 1 to 32.
        height, width: in pixels, multiples of 16.
        fps: frames per second.
        num_inference_steps: DDIM steps over the whole schedule.
        device: torch device; None is CUDA where there is one.
    """

    type: Literal["embedded"] = "embedded"
    frames: int = Field(8, ge=1, le=32)
    height: int = Field(128, ge=32, le=2048, multiple_of=16)
    width: int = Field(192, ge=32, le=2048, multiple_of=16)
    fps: float = Field(8.0, gt=0, le=240)
    num_inference_steps: int = Field(30, ge=2, le=1000)
    device: str | None = None


@register_stage("base", "embedded")
class EmbeddedStage(Stage):
    """Samples from pure noise. The model is unconditional: a prompt is recorded, has no influence, and the receipt says
    so."""

    Options = EmbeddedOptions
    _model: EmbeddedRefiner | None = None

    def load(self) -> None:
        self._model = EmbeddedRefiner(device=self.options.device)

    def close(self) -> None:
        self._model = None

    def steps(self, frames: int | None) -> int:
        return int(self.options.num_inference_steps)

    def run(self, request: StageRequest) -> StageResult:
        """Denoise from noise that depends on `request.seed` alone, over the whole schedule."""
        options, model = self.options, self._model
        assert model is not None
        timesteps = model.timesteps(options.num_inference_steps, 1.0)
        shape = tuple(model.encode(torch.zeros(options.frames, 3, options.height, options.width)).shape)
        noise = frame_noise(shape, request.seed, 0, model.device)
        with torch.no_grad():
            latents = model.denoise(noise, timesteps, None, on_step=lambda: request.on_step("sample"))
            frames = model.decode(latents)
        notes = ["prompt ignored: the embedded model is unconditional"] if request.prompt else []
        note = f"sampled from the embedded model, seed {request.seed}"
        clip = VideoClip(frames, options.fps, request.prompt, request.seed, (note,))
        return StageResult(clip, {"adapter": {"name": "embedded", **model.describe()}, "degradations": notes})
