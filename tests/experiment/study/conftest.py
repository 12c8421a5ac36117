"""Clips of two arms that an eye can tell apart by colour, in a plain folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nc_refiner.video import FrameWriter

ARMS = ("sdedit_arm", "nc_arm")
COLOURS = {"sdedit_arm": (0.1, 0.2, 0.8), "nc_arm": (0.8, 0.2, 0.1), "input": (0.4, 0.4, 0.4)}
FPS = 12


def tinted(colour: tuple[float, float, float], frames: int = 18) -> Tensor:
    """A bright bar that moves over one colour: `(F, 3, 64, 96)`."""
    clip = torch.tensor(colour).view(1, 3, 1, 1).repeat(frames, 1, 64, 96)
    for number in range(frames):
        clip[number, :, 48:, 4 * number : 4 * number + 6] = 0.95
    return clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four inputs, each with the output of two arms; the names tell what they are."""
    root = tmp_path / "blind_study_of_nc"
    for arm, colour in COLOURS.items():
        (root / arm).mkdir(parents=True)
        for number in range(4):
            with FrameWriter(root / arm / f"camel{number}.mp4", FPS) as writer:
                writer.write(tinted(colour))
    return root
