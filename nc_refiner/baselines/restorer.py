"""Rivals that restore and do not refine: frames in, frames out, without an adapter, latents or a strength."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..calibration import CalibrationTrace
from ..clip import VideoClip
from ..refiner import RefinedClip
from ..refining.receipt import peak_memory_bytes, versions
from ..refining.resize import bicubic, output_size
from ..refining.settings import RefineSettings

__all__ = ["FunctionRestorer", "Restorer", "RestoringBaseline", "at_size", "padded", "restored"]


class Restorer(ABC):
    """What restores or upscales a clip.

    Attributes:
        name: what tables call it.
        seeded: whether another seed gives another result; where it does not, one run serves all seeds.
        input_scale: what it is fed, as a share of the clip's height and width, in (0, 1]. 1 is the clip as it is.
    """

    name: str = ""
    seeded: bool = False
    input_scale: float = 1.0

    @abstractmethod
    def restore(self, frames: Tensor, prompt: str | None, seed: int) -> Tensor:
        """Restored frames, as many as came, at any size of the same shape.

        Args:
            frames: `(F, 3, H, W)` in [0, 1], on the CPU.
            prompt: for those that read one.
            seed: the only source of randomness.
        """

    def describe(self) -> dict[str, Any]:
        """All that decides its results, JSON-ready: results are looked up by it."""
        return {"name": self.name, "input_scale": self.input_scale}


class FunctionRestorer(Restorer):
    """Any function of frames `(F, 3, H, W)` in [0, 1] that gives frames as a restorer.

    Args:
        name: what tables call it.
        restore: the function. It must give the same frames for the same frames.
        input_scale: share of the clip's height and width that it is fed.
        **described: what else decides its results, such as a version or a digest of its weights.
    """

    def __init__(self, name: str, restore: Callable[[Tensor], Tensor], input_scale: float = 1.0, **described: Any):
        self.name, self.input_scale = name, input_scale
        self._restore, self._described = restore, described

    def restore(self, frames: Tensor, prompt: str | None, seed: int) -> Tensor:
        return self._restore(frames)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), **self._described}


def at_size(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames `(F, 3, H, W)` in [0, 1] at another size: averaged by area where they shrink, else antialiased bicubic."""
    have = tuple(frames.shape[-2:])
    if have == (height, width):
        return frames
    if have[0] >= height and have[1] >= width:
        return interpolate(frames, size=(height, width), mode="area")
    return bicubic(frames, (height, width))


def restored(
    restorer: Restorer, frames: Tensor, size: tuple[int, int], prompt: str | None = None, seed: int = 0
) -> Tensor:
    """What `restorer` makes of `frames`, at `size`, in [0, 1].

    The restorer sees the clip at `input_scale` of its size, by default all of it: shrunk first, as an upscaler's
    benchmark would have it, it would lack what every other arm is given. What it gives is averaged by area down to
    `size`.

    Args:
        restorer: what restores.
        frames: `(F, 3, H, W)` in [0, 1].
        size: height and width of the result, in pixels.
        prompt, seed: as `Restorer.restore` takes them.

    Raises:
        ValueError: `input_scale` is out of range. RuntimeError: what came back are no such frames.
    """
    if not 0 < restorer.input_scale <= 1:
        raise ValueError(f"{restorer.name}: input_scale is {restorer.input_scale}; it must be above 0, at most 1")
    height, width = (max(1, round(side * restorer.input_scale)) for side in frames.shape[-2:])
    with torch.no_grad():
        found = restorer.restore(at_size(frames, height, width), prompt, seed)
    if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[:2] != frames.shape[:2]:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise RuntimeError(f"{restorer.name} gave {shape} for frames of shape {tuple(frames.shape)}")
    if not bool(torch.isfinite(found).all()):
        raise RuntimeError(f"{restorer.name} produced NaN or infinite pixels")
    return at_size(found.to("cpu", torch.float32).clamp(0, 1), *size)


class RestoringBaseline:
    """A restorer behind the same call as a refiner.

    Args:
        restorer: what restores.

    Examples:
        >>> soft = FunctionRestorer("soft", lambda frames: torch.nn.functional.avg_pool2d(frames, 3, 1, 1))
        >>> RestoringBaseline(soft)(VideoClip(torch.rand(4, 3, 32, 32))).clip.height
        32
    """

    def __init__(self, restorer: Restorer):
        self.restorer = restorer

    def __call__(
        self,
        clip: VideoClip,
        *,
        seed: int = 0,
        prompt: str | None = None,
        size: tuple[int, int] | None = None,
        scale: float | None = None,
    ) -> RefinedClip:
        """Restore `clip`, at its own size or at `size` or `scale`, as a refiner would be asked to.

        Raises:
            ValueError: a setting out of range. RuntimeError: the restorer failed.
        """
        settings = RefineSettings(seed=seed, prompt=prompt or clip.prompt, size=size, scale=scale)
        start = time.perf_counter()
        frames = restored(
            self.restorer, clip.frames, output_size(settings, clip.height, clip.width), settings.prompt, seed
        )
        receipt: dict[str, Any] = {
            "versions": versions(),
            "baseline": {"method": self.restorer.name, **self.restorer.describe()},
            "evaluations": {},
            "seconds": {"total": round(time.perf_counter() - start, 4)},
            "peak_memory_bytes": peak_memory_bytes(torch.device("cpu")),
            "degradations": [],
        }
        note = f"restored by {self.restorer.name}" + (f", seed {seed}" if self.restorer.seeded else "")
        return RefinedClip(clip.with_frames(frames, note), CalibrationTrace(), receipt)


def padded(frames: Tensor, multiple: int) -> Tensor:
    """Frames `(F, 3, H, W)` made a multiple of `multiple` high and wide by repeating the right and lower edge."""
    height, width = (int(side) for side in frames.shape[-2:])
    below, right = (math.ceil(side / multiple) * multiple - side for side in (height, width))
    return torch.nn.functional.pad(frames, (0, right, 0, below), mode="replicate") if below or right else frames
