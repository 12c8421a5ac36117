"""Adapters that misbehave; workers find them by their entry points, as they find anyone's plugin."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from nc_refiner.adapters.embedded import EmbeddedRefiner

__all__ = ["FlakyRefiner", "TroubledRefiner", "plugin"]


class FlakyRefiner(EmbeddedRefiner):
    """The embedded refiner, whose every second clip fails."""

    name = "flaky"
    clips = 0

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.clips += 1
        if self.clips % 2:
            raise RuntimeError("this arm fails every second clip")
        return super().encode(frames, generator)


class TroubledRefiner(EmbeddedRefiner):
    """The embedded refiner, with one `trouble`: `build`, `hang`, `slow`, `kill`, `memory`, or none."""

    name = "troubled"

    def __init__(self, trouble: str = ""):
        if trouble == "build":
            raise ValueError("these weights are not for this model")
        super().__init__()
        self.trouble = trouble

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.trouble == "hang":
            time.sleep(600)
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "memory":
            raise MemoryError
        return super().encode(frames, generator)

    def predict_x0(self, *given, **named) -> Tensor:
        if self.trouble == "slow":
            time.sleep(0.2)
        return super().predict_x0(*given, **named)


def plugin(folder: Path) -> Path:
    """Make `folder` an installed distribution that brings the adapters; put it on PYTHONPATH."""
    info = folder / "flaky_refiner-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky-refiner\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[nc_refiner.adapters]\nflaky = tests.serving.flaky:FlakyRefiner\n"
        "troubled = tests.serving.flaky:TroubledRefiner\n",
        encoding="utf-8",
    )
    return folder
