"""`interpolation: rife`: a learned interpolation network from disk (RIFE and its kin), as TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...adapters.runtime import default_device
from .base import StageOptions
from .blend import InterpolationStage
from .registry import register_stage

__all__ = ["RifeOptions", "RifeStage"]


class RifeOptions(StageOptions):
    """The network.

    Attributes:
        weights: a TorchScript file (`torch.jit.save`) of a module called as `model(before, after, timestep)`, with
            frames `(1, 3, H, W)` in [0, 1] and `timestep` a float32 tensor `(1,)` in (0, 1), that returns the frame
            `(1, 3, H, W)` at that time.
        factor: how many times as many frames per second, 2 to 16.
        size_multiple: frames are padded so that height and width are multiples of it, and cut again.
        device: torch device; None is CUDA where there is one.
    """

    type: Literal["rife"] = "rife"
    weights: Annotated[str, Field(min_length=1)]
    factor: int = Field(2, ge=2, le=16)
    size_multiple: int = Field(32, ge=1, le=512)
    device: str | None = None


@register_stage("interpolation", "rife")
class RifeStage(InterpolationStage):
    """A frame in between is what the network says. No weights ship with this package."""

    Options = RifeOptions
    _model: Any = None

    def check(self) -> None:
        """FileNotFoundError where the weights are not on disk."""
        path = Path(self.options.weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"interpolation.weights: {path} is not a file; save a RIFE network there with torch.jit.save, "
                "or use 'flow' or 'blend', which need none"
            )

    def load(self) -> None:
        """Load the network; ValueError where the file is no TorchScript."""
        self._device = torch.device(self.options.device or default_device())
        try:
            self._model = torch.jit.load(self.options.weights, map_location=self._device).eval()
        except Exception as error:  # a damaged archive raises nearly anything
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(
                f"interpolation.weights: {self.options.weights} is no TorchScript file ({reason})"
            ) from None

    def close(self) -> None:
        self._model = None

    def between(self, before: Tensor, after: Tensor, times: list[float]) -> list[Tensor]:
        height, width = before.shape[-2:]
        multiple = self.options.size_multiple
        pad = (0, -width % multiple, 0, -height % multiple)
        pair = [F.pad(frame[None].to(self._device), pad, mode="replicate") for frame in (before, after)]
        found = []
        with torch.no_grad():
            for time in times:
                made = self._model(*pair, torch.tensor([time], device=self._device))
                if not isinstance(made, Tensor) or made.shape != pair[0].shape:
                    shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
                    raise ValueError(f"the network returned {shape}; needed: a frame {tuple(pair[0].shape)}")
                found.append(made[0, :, :height, :width].float().cpu())
        return found
