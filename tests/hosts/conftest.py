"""Hosts in their own environments: skipped, with the reason, everywhere else."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nc_refiner.clip import VideoClip
from nc_refiner.video import write_clip

from ..adapters.small_modelscope import waves
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
def models(tmp_path_factory: pytest.TempPathFactory, modelscope_stack: None) -> Any:
    """Folders of tiny models as the hub lays them out: `text`, `image` and `video`, which the host builds small while
    this lives; it stretches clips to 80×64 meanwhile."""
    from .tiny_modelscope import tiny_models, write_image_to_video, write_text_to_video, write_video_to_video

    folder = tmp_path_factory.mktemp("models")
    with tiny_models():
        yield SimpleNamespace(
            text=write_text_to_video(folder / "t2v"),
            image=write_image_to_video(folder / "i2v"),
            video=write_video_to_video(folder / "v2v"),
        )


@pytest.fixture(scope="session")
def tiny(models: Any) -> Any:
    """The `pipe` over the tiny video-to-video in `folder`, and the host's `cfg`."""
    from nc_refiner.adapters.modelscope.loading import load_pipeline

    pipe = load_pipeline(str(models.video), device="cpu")
    return SimpleNamespace(folder=models.video, pipe=pipe, cfg=pipe.model.cfg)


class Counted:
    """Counts evaluations of a network."""

    def __init__(self, network: torch.nn.Module):
        self.count = 0
        self.handle = network.register_forward_hook(self._one)

    def _one(self, *_: Any) -> None:
        self.count += 1


@pytest.fixture
def counted(tiny: Any) -> Any:
    """Counts the evaluations of the video-to-video network."""
    counter = Counted(tiny.pipe.model.generator)
    yield counter
    counter.handle.remove()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short real mp4 of 80×64 at 12 fps."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    write_clip(VideoClip(waves(3), 12.0), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two PNGs of 80×64."""
    from PIL import Image

    paths = [tmp_path_factory.mktemp("pictures") / name for name in ("first.png", "second.png")]
    for frame, path in zip(waves(2), paths, strict=True):
        Image.fromarray(frame.mul(255).byte().permute(1, 2, 0).numpy()).save(path)
    return paths
