"""`interpolation: blend`: frames added by mixing their neighbours."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ...clip import VideoClip
from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage

__all__ = ["BlendOptions", "BlendStage", "InterpolationStage"]


class InterpolationStage(Stage):
    """Adds `factor − 1` frames between every two, and plays them so much faster: F frames become
    `(F − 1) · factor + 1`. Subclasses say what a frame in between looks like.
    """

    def steps(self, frames: int | None) -> int:
        return max(1, (frames or 1) - 1)

    def between(self, before: Tensor, after: Tensor, times: list[float]) -> list[Tensor]:
        """Frames `(3, H, W)` in [0, 1] at `times` in (0, 1) between two such frames."""
        raise NotImplementedError(f"{type(self).__name__} must say what lies between two frames")

    def run(self, request: StageRequest) -> StageResult:
        """Interpolate `request.clip`; a still stays as it is."""
        clip, factor = request.clip, int(self.options.factor)
        if clip is None:
            raise ValueError("an interpolation needs a clip; the cascade's base made none")
        times = [step / factor for step in range(1, factor)]
        frames = [clip.frames[0]]
        for before, after in zip(clip.frames, clip.frames[1:], strict=False):
            frames += [*(frame.clamp(0, 1) for frame in self.between(before, after, times)), after]
            request.on_step("interpolate")
        note = f"{self.options.type}: {len(clip)} frames to {len(frames)}"
        made = VideoClip(torch.stack(frames), clip.fps * factor, clip.prompt, clip.seed, (*clip.history, note))
        return StageResult(made, {"frames": [len(clip), len(frames)], "fps": [clip.fps, made.fps]})


class BlendOptions(StageOptions):
    """`factor`: how many times as many frames per second, 2 to 16."""

    type: Literal["blend"] = "blend"
    factor: int = Field(2, ge=2, le=16)


@register_stage("interpolation", "blend")
class BlendStage(InterpolationStage):
    """A frame in between is the weighted mean of its neighbours: nothing moves, so what moves is seen twice."""

    Options = BlendOptions

    def between(self, before: Tensor, after: Tensor, times: list[float]) -> list[Tensor]:
        return [torch.lerp(before, after, time) for time in times]
