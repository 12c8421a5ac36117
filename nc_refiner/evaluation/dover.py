"""DOVER (Wu et al. 2023): a trained judge of video quality, through its authors' network in a folder the user names."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .extras import needs
from .learned import load_tensors, unmoved
from .prepared import checked_frames

__all__ = ["Dover", "DoverViews"]

SOURCE = "github.com/VQAssessment/DOVER"
WEIGHTS = "pretrained_weights/DOVER.pth"
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIDE, GRID, PATCH = 224, 7, 32
# Sampling of the authors' dover.yml: frames of a view, their spacing, views of the technical branch.
LENGTH, INTERVAL, CLIPS = 32, 2, 3


class Dover:
    """The network, built without the download that its constructor would make.

    The code and the weights are a separate, non-commercial download.

    Args:
        folder: a checkout of the authors' repository with the weights in it; None where the user named none.
        device: torch device.

    Raises:
        FileNotFoundError: the folder, its code or its weights are missing.
        ImportError: timm or einops is not installed.
        ValueError: the file holds other weights.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, device: str = "cpu"):
        where = None if folder is None else Path(folder)
        for part in ("dover/models/__init__.py", WEIGHTS):
            if where is None or not (where / part).is_file():
                missing = "" if where is None else f" ({where / part} is missing)"
                raise FileNotFoundError(
                    f"DOVER needs its authors' code and weights{missing}: get {SOURCE} with {WEIGHTS} and pass "
                    "--dover FOLDER"
                )
        assert where is not None
        network = _build(where / "dover" / "models")
        try:
            network.load_state_dict(load_tensors(where / WEIGHTS))
        except RuntimeError as error:
            raise ValueError(f"{where / WEIGHTS}: are weights of another network than DOVER") from error
        self._network = network.eval().to(device)
        self._device = device

    def views(self, frames: int, height: int, width: int) -> DoverViews:
        """An empty pair of views of a clip of `frames` frames of `height` by `width` pixels."""
        return DoverViews(frames, height, width)

    def score(self, views: DoverViews) -> float:
        """Fused quality in [0, 1], higher is better (the papers print it times 100)."""
        prepared = {name: _normalised(view).to(self._device) for name, view in views.finished().items()}
        with torch.inference_mode(), unmoved():
            technical, aesthetic = (float(found.mean()) for found in self._network(prepared))
        # The authors' fusion of the two branches, fitted by them.
        fused = (technical - 0.1107) / 0.07355 * 0.6104 + (aesthetic + 0.08285) / 0.03774 * 0.3896
        return 1 / (1 + math.exp(-fused))


class DoverViews:
    """What the two branches see, gathered while the frames stream past; a clip under 64 frames wraps around.

    Technical: three runs of 32 frames, two apart, each a 7×7 mosaic of patches cut at full resolution. Aesthetic: 32
    frames over the whole clip, shrunk to 224×224. The authors draw places at random; here a generator seeded with 0
    does, so that a clip always gets the same number.

    Args:
        frames, height, width: of the clip.
    """

    def __init__(self, frames: int, height: int, width: int):
        generator = torch.Generator().manual_seed(0)

        def draw(count: int, size: tuple[int, ...]) -> Tensor:
            return torch.randint(count, size, generator=generator) if count > 0 else torch.zeros(size, dtype=torch.long)

        runs = torch.arange(LENGTH) * INTERVAL
        starts = draw(frames - LENGTH * INTERVAL, (CLIPS, 1))
        self.technical_frames = ((starts + runs) % frames).flatten().tolist()
        part = frames // LENGTH
        self.aesthetic_frames = ((part * torch.arange(LENGTH) + draw(part - INTERVAL, (LENGTH,))) % frames).tolist()
        # Frames smaller than the mosaic are enlarged to it.
        scale = max(1.0, SIDE / height, SIDE / width)
        self._size = max(SIDE, round(height * scale)), max(SIDE, round(width * scale))
        rows, columns = self._size[0] // GRID, self._size[1] // GRID
        self._tops = draw(rows - PATCH, (CLIPS, GRID, GRID)) + rows * torch.arange(GRID)[:, None]
        self._lefts = draw(columns - PATCH, (CLIPS, GRID, GRID)) + columns * torch.arange(GRID)
        self._technical = torch.empty(CLIPS * LENGTH, 3, SIDE, SIDE)
        self._aesthetic = torch.empty(LENGTH, 3, SIDE, SIDE)
        self._frames, self._seen = frames, 0

    def add(self, frames: Tensor) -> None:
        """Take in the next frames `(n, 3, H, W)` in [0, 1]. ValueError for NaN, another shape, or too many frames."""
        for frame in checked_frames("frames", frames).float():
            if self._seen >= self._frames:
                raise ValueError(f"the clip was said to have {self._frames} frames and has more")
            places = [i for i, number in enumerate(self.technical_frames) if number == self._seen]
            if places:
                enlarged = F.interpolate(frame[None], size=self._size, mode="bilinear")[0]
                for place in places:
                    self._technical[place] = self._mosaic(enlarged, place // LENGTH)
            places = [i for i, number in enumerate(self.aesthetic_frames) if number == self._seen]
            if places:
                self._aesthetic[places] = F.interpolate(frame[None], size=(SIDE, SIDE), mode="bilinear", antialias=True)
            self._seen += 1

    def _mosaic(self, frame: Tensor, clip: int) -> Tensor:
        rows = []
        for i in range(GRID):
            corners = zip(self._tops[clip, i].tolist(), self._lefts[clip, i].tolist(), strict=True)
            rows.append(torch.cat([frame[:, y : y + PATCH, x : x + PATCH] for y, x in corners], dim=-1))
        return torch.cat(rows, dim=-2)

    def finished(self) -> dict[str, Tensor]:
        """`technical` `(3, 3, 32, 224, 224)` and `aesthetic` `(1, 3, 32, 224, 224)`: clips, channels, frames."""
        if self._seen < self._frames:
            raise ValueError(f"the clip was said to have {self._frames} frames and has {self._seen}")
        technical = self._technical.reshape(CLIPS, LENGTH, 3, SIDE, SIDE)
        return {"technical": technical.transpose(1, 2), "aesthetic": self._aesthetic[None].transpose(1, 2)}


def _normalised(view: Tensor) -> Tensor:
    shape = (1, 3, 1, 1, 1)
    return (view * 255 - torch.tensor(MEAN).reshape(shape)) / torch.tensor(STD).reshape(shape)


def _build(folder: Path) -> Any:
    """The authors' network with random weights, from their folder of models alone."""
    with needs("timm", "timm", "learned"), needs("einops", "einops", "learned"), _imported(folder) as models:
        evaluator = sys.modules[f"{models.__name__}.evaluator"]
        backbone = evaluator.convnext_3d_tiny
        # The constructor asks for a pretrained backbone, and gets it from the network, even if DOVER's weights follow.
        evaluator.convnext_3d_tiny = lambda pretrained=True, **options: backbone(pretrained=False, **options)  # type: ignore[attr-defined]
        with unmoved():
            return models.DOVER(
                backbone={
                    "technical": {"type": "swin_tiny_grpb", "checkpoint": True, "pretrained": None},
                    "aesthetic": {"type": "conv_tiny"},
                },
                backbone_preserve_keys="technical,aesthetic",
                divide_head=True,
                vqa_head={"in_channels": 768, "hidden_channels": 64},
            )


@contextlib.contextmanager
def _imported(folder: Path) -> Iterator[Any]:
    """The package in `folder` under a name of its own, forgotten again afterwards.

    Not as `dover`: a package of that name in the registry is another, and the authors' `__init__` imports much more.
    """
    name = "nc_refiner_dover_models"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for found in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[found]
