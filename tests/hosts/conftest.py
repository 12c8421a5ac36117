"""Hosts in their own environments: skipped, with the reason, everywhere else."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nc_refiner.clip import VideoClip
from nc_refiner.video import write_clip

from .operators import declare_torchvision_operators

NEEDED = ("modelscope", "torchvision", "open_clip", "easydict", "torchsde", "datasets", "imageio_ffmpeg")


@pytest.fixture(scope="session")
def modelscope_stack() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs the ModelScope environment (missing: {', '.join(missing)}); .ci/run creates it")
    declare_torchvision_operators()


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, modelscope_stack: None) -> Any:
    """imageio-ffmpeg's binary on PATH under the name the host calls."""
    import imageio_ffmpeg

    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    yield folder
    os.environ["PATH"] = before


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, modelscope_stack: None) -> Any:
    """`folder` of a tiny model and the `pipe` over it; the host stretches to 80×64 while this lives."""
    from nc_refiner.adapters.modelscope.loading import load_pipeline
    from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in

    from .tiny_modelscope import tiny_parts, write_video_to_video

    with missing_imports_stood_in():
        import modelscope.models.multi_modal.video_to_video.video_to_video_model as host
    assert "xformers.ops" not in sys.modules or find_spec("xformers") is not None
    with tiny_parts():
        folder = write_video_to_video(tmp_path_factory.mktemp("models") / "v2v")
        pipe = load_pipeline(str(folder), device="cpu")
        yield SimpleNamespace(folder=folder, pipe=pipe, cfg=host.cfg)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short real mp4 of 80×64 at 12 fps."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 80), torch.linspace(0, 1, 64), indexing="ij")
    frames = torch.stack(
        [torch.stack([0.5 + 0.4 * torch.sin(9 * x + i), y, 0.5 + 0.3 * torch.cos(7 * y - i)]) for i in range(3)]
    ).clamp(0, 1)
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    write_clip(VideoClip(frames, 12.0), path)
    return path
