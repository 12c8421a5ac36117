"""Small real files to compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ..video.conftest import make_video, moving

MakeClip = Callable[..., Path]


def textured(frames: int, height: int = 64, width: int = 96) -> Tensor:
    """A moving pattern with fine grain, the same at every call: `(F, 3, H, W)`."""
    grain = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(3)) - 0.5
    return (0.8 * moving(frames, height, width) + 0.1 + 0.1 * grain).clamp(0, 1)


def noisy(frames: Tensor, amount: float, seed: int = 1) -> Tensor:
    """`frames` with uniform noise of the given width."""
    noise = torch.rand(frames.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    return (frames + amount * noise).clamp(0, 1)


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Writes frames `(F, 3, H, W)` as `name` into the test's folder."""

    def make(name: str, frames: Tensor, fps: int = 8) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return make_video(path, frames, fps=fps)

    return make


def drifting(count: int) -> torch.Tensor:
    """A soft pattern that moves by two pixels a frame."""
    wide = F.interpolate(torch.rand(1, 3, 6, 20, generator=torch.Generator().manual_seed(0)), (48, 160), mode="bicubic")
    return torch.cat([wide[..., 2 * i : 2 * i + 64] for i in range(count)]).clamp(0, 1)
