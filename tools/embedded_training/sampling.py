"""Random training crops: film and video runs as they are, photographs under an invented camera motion."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHRINK_FACTORS = (1, 2, 3, 4)
SHRINK_SHARES = (0.05, 0.35, 0.35, 0.25)
"""How often a crop is box-filtered down by each factor: refined clips are small and sharp, so most crops are too."""
STRIDES = (1, 2, 3)
STRIDE_SHARES = (0.6, 0.25, 0.15)
"""How often only every n-th frame is taken: refined clips have 8 to 24 frames a second, the film has 24."""


class ClipSampler:
    """Draws `(B, 3, F, size, size)` clips in [0, 1] from a prepared cache folder.

    Args:
        cache: folder written by `sources.prepare`.
        frames: frames per clip, at most `sources.SEGMENT_FRAMES`.
        size: height and width of a crop in pixels.
        seed: with a batch's number it decides that batch, so a resumed run sees the batches it would have seen.
        weights: share of film, other video and photographs; what is absent passes its share on.
    """

    def __init__(self, cache: Path, frames: int, size: int, seed: int, weights: tuple[float, float, float]):
        self.frames, self.size, self.seed = frames, size, seed
        self.generator = torch.Generator()
        film = [np.load(cache / "film.npy", mmap_mode="r")]
        videos = [np.load(path, mmap_mode="r") for path in sorted(cache.glob("video_*.npy"))]
        photos = [_halvings(np.load(path)) for path in sorted(cache.glob("photo_*.npy"))]
        groups: list[tuple[float, list[Any], Callable[[Any], Tensor]]] = [
            (weights[0], film, self._run),
            (weights[1], videos, self._run),
            (weights[2], photos, self._photo),
        ]
        self.groups = [group for group in groups if group[1]]
        self.weights = torch.tensor([group[0] for group in self.groups])

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def _integer(self, limit: int) -> int:
        return int(torch.randint(limit, (), generator=self.generator))

    def _choice(self, values: tuple[int, ...], shares: tuple[float, ...]) -> int:
        return values[int(torch.multinomial(torch.tensor(shares), 1, generator=self.generator))]

    def batch(self, number: int, count: int) -> Tensor:
        """Batch `number`: `count` clips, flipped and played backwards at random, brightness and contrast varied."""
        self.generator.manual_seed(self.seed * 1_000_003 + number)
        clips = []
        for _ in range(count):
            # Half of the time the one of two candidates with more detail: much of any film is sky, wall or out of
            # focus, and a model fed mostly that learns to leave soft pictures soft. Not always, or it forgets them.
            clip = self._candidate()
            if self._uniform(0, 1) < 0.5:
                clip = max(clip, self._candidate(), key=_detail)
            if self._uniform(0, 1) < 0.5:
                clip = clip.flip(-1)
            if self._uniform(0, 1) < 0.5:
                clip = clip.flip(1)
            gain, offset = self._uniform(0.8, 1.2), self._uniform(-0.1, 0.1)
            clips.append(((clip - 0.5) * gain + 0.5 + offset).clamp(0, 1))
        return torch.stack(clips)

    def _candidate(self) -> Tensor:
        group = int(torch.multinomial(self.weights, 1, generator=self.generator))
        _, arrays, draw = self.groups[group]
        return draw(arrays[self._integer(len(arrays))])

    def _run(self, runs: np.ndarray) -> Tensor:
        run = runs[self._integer(len(runs))]
        height, width = run.shape[1:3]
        factor = min(self._choice(SHRINK_FACTORS, SHRINK_SHARES), height // self.size)
        stride = min(self._choice(STRIDES, STRIDE_SHARES), (len(run) - 1) // max(self.frames - 1, 1))
        window = self.size * factor
        top, left = self._integer(height - window + 1), self._integer(width - window + 1)
        reach = (self.frames - 1) * stride + 1
        start = self._integer(len(run) - reach + 1)
        crop = np.ascontiguousarray(run[start : start + reach : stride, top : top + window, left : left + window])
        clip = torch.from_numpy(crop).permute(3, 0, 1, 2).float() / 255
        return F.avg_pool2d(clip, factor) if factor > 1 else clip

    def _photo(self, sizes: list[np.ndarray]) -> Tensor:
        """Pan, zoom and roll over a still; sampled at twice the size and averaged, so that it stays free of alias."""
        scale = math.exp(self._uniform(math.log(1.0), math.log(5.0)))
        photo = sizes[0]
        if scale > 2.2:
            photo, scale = sizes[1], scale / 2
        height, width = photo.shape[:2]
        reach = self.size * scale * 0.75 + 8
        centre_y, centre_x = self._uniform(reach, height - reach), self._uniform(reach, width - reach)
        speed = abs(self._uniform(-1, 1)) ** 2 * 12 * scale
        heading = self._uniform(0, 2 * math.pi)
        zoom, roll = self._uniform(-0.012, 0.012), self._uniform(-0.01, 0.01)
        time = torch.arange(self.frames) - (self.frames - 1) / 2
        y = (centre_y + speed * math.sin(heading) * time).clamp(reach, height - reach)
        x = (centre_x + speed * math.cos(heading) * time).clamp(reach, width - reach)
        grow, angle = scale * torch.exp(zoom * time), roll * time
        axis = (torch.arange(2 * self.size) - self.size + 0.5) / 2
        gy, gx = torch.meshgrid(axis, axis, indexing="ij")
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        py = y[:, None, None] + grow[:, None, None] * (cos * gy + sin * gx)
        px = x[:, None, None] + grow[:, None, None] * (cos * gx - sin * gy)
        top, left = int(py.min().clamp(0)), int(px.min().clamp(0))
        bottom, right = min(height, int(py.max()) + 2), min(width, int(px.max()) + 2)
        patch = torch.from_numpy(np.ascontiguousarray(photo[top:bottom, left:right])).permute(2, 0, 1).float() / 255
        grid = torch.stack([(px - left) / (right - left - 1), (py - top) / (bottom - top - 1)], dim=-1) * 2 - 1
        source = patch[None].expand(self.frames, -1, -1, -1)
        clip = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return F.avg_pool2d(clip, 2).transpose(0, 1)


def _detail(clip: Tensor) -> float:
    return float(clip.diff(dim=-1).square().mean() + clip.diff(dim=-2).square().mean())


def _halvings(photo: np.ndarray) -> list[np.ndarray]:
    """The photograph and its box-filtered half."""
    height, width = (side // 2 * 2 for side in photo.shape[:2])
    quads = photo[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).astype(np.float32)
    return [photo, quads.mean(axis=(1, 3)).round().astype(np.uint8)]


def validation_clips(cache: Path, size: int, frames: int) -> Tensor:
    """Fixed centre crops `(V, 3, F, size, size)` of what was held out of film and videos, at half the stored size."""
    window, found = 2 * size, []
    for path in sorted(cache.glob("validation*.npy")):
        runs = np.load(path, mmap_mode="r")
        top, left = (runs.shape[2] - window) // 2, (runs.shape[3] - window) // 2
        crops = torch.from_numpy(np.ascontiguousarray(runs[:, :frames, top : top + window, left : left + window]))
        found.append(F.avg_pool3d(crops.permute(0, 4, 1, 2, 3).float() / 255, (1, 2, 2)))
    return torch.cat(found)
