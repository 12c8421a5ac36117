"""A small experiment and a small sweep, each run once for all tests of their pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nc_refiner.cli.main import main
from nc_refiner.video import FrameWriter

from ...evaluation.conftest import noisy, textured

FRAMES, FPS = 4, 8
SPEED = {"strength": 0.5, "num_inference_steps": 3}


def footage(folder: Path, count: int) -> list[str]:
    """Clips that differ, in two folders; their paths from `folder`."""
    names = [f"{'day' if number % 2 else 'night'}/clip{number}.mp4" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        with FrameWriter(folder / name, FPS) as writer:
            writer.write(noisy(textured(FRAMES, 48, 64), 0.05 + 0.05 * number, number))
    return names


def ran(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def experiment_folder(tmp_path_factory: pytest.TempPathFactory, small_model: None) -> Path:
    """`ab run` of three arms on nine clips."""
    folder = tmp_path_factory.mktemp("ab")
    config = {
        "version": 1,
        "experiment": "small",
        "settings": SPEED,
        "control": "sdedit",
        "arms": {
            "sdedit": "sdedit",
            "one": {"refiner": "nc", "iterations": 1},
            "two": {"refiner": "nc", "iterations": 2},
        },
        "clips": footage(folder, 9),
        "metrics": ["mse", "ssim", "spatial_frequency", "evaluations"],
        "guardrails": {"evaluations": "1.4x"},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    ran("ab", "run", folder / "small.yaml", "--output", folder / "out", "--quiet")
    return folder / "out"


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory, small_model: None) -> Path:
    """`sweep` of N × ν × strength on two clips."""
    folder = tmp_path_factory.mktemp("sweep")
    footage(folder, 4)
    config = {
        "clips": "day",
        "frames": FRAMES,
        "iterations": [0, 1, 2],
        "cutoffs": [0.5, 1.0],
        "strengths": [0.4, 0.7],
        "num_inference_steps": 4,
        "baselines": ["input"],
        "metrics": ["mse", "mse_low", "spatial_frequency"],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    ran("sweep", folder / "small.yaml", "--output", folder / "out")
    return folder / "out"
