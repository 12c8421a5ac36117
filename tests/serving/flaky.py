"""An adapter that fails half of its calls; workers find it by its entry point, as they find anyone's plugin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nc_refiner.adapters.embedded import EmbeddedRefiner

__all__ = ["FlakyRefiner", "plugin"]


class FlakyRefiner(EmbeddedRefiner):
    """The embedded refiner, whose every second clip fails."""

    name = "flaky"
    clips = 0

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.clips += 1
        if self.clips % 2:
            raise RuntimeError("this arm fails every second clip")
        return super().encode(frames, generator)


def plugin(folder: Path) -> Path:
    """Make `folder` an installed distribution that brings the adapter; put it on PYTHONPATH."""
    info = folder / "flaky_refiner-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky-refiner\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[nc_refiner.adapters]\nflaky = tests.serving.flaky:FlakyRefiner\n", encoding="utf-8"
    )
    return folder
