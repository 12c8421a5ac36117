"""Looking at clips next to each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import AtomicFile, failures_told
from .errors import VideoError
from .read import resize
from .write import FrameWriter, as_bytes, checked_frames

__all__ = ["SideBySideWriter", "contact_sheet"]

_GAP = 4
_BACKGROUND = 0.09
_THUMB_HEIGHT = 216
# The crop shows this share of the height: small enough for pixels to be seen, large enough to know what they are.
_CROP_SHARE = 0.25


def _label(text: str, width: int, height: int) -> Tensor:
    """`text` in white, centred and made to fit, as `(3, height, width)` in [0, 1]."""
    import numpy
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width, height), round(_BACKGROUND * 255))
    draw = ImageDraw.Draw(image)
    points = max(8, round(height * 0.6))
    font: Any = ImageFont.load_default(points)
    while points > 8 and draw.textlength(text, font=font) > width - 4:
        points -= 1
        font = ImageFont.load_default(points)
    while len(text) > 1 and draw.textlength(text, font=font) > width - 4:
        text = text.rstrip("…")[:-1] + "…"
    draw.text((width / 2, height / 2), text, fill=255, font=font, anchor="mm")
    return torch.from_numpy(numpy.array(image)).float().div_(255).expand(3, -1, -1)


class SideBySideWriter:
    """Writes labelled panels next to each other into one mp4, as they come.

    Args:
        path: ends in `.mp4`.
        labels: one text per panel, left to right, at least one.
        fps: frames per second, as `FrameWriter`.
        crf: x264's quality, as `FrameWriter`.

    Attributes:
        notes: panels that were resized, and the notes of the `FrameWriter` underneath.

    Raises:
        VideoError: no labels, or as `FrameWriter`.
    """

    def __init__(
        self, path: str | os.PathLike[str], labels: Sequence[str], fps: float | Fraction = 8.0, *, crf: float = 12
    ) -> None:
        if isinstance(labels, str) or not labels or not all(isinstance(label, str) for label in labels):
            raise VideoError(f"labels must be a list of at least one text, found {labels!r}")
        if not str(path).lower().endswith(".mp4"):
            raise VideoError(f"{path}: a side-by-side is a video; use .mp4")
        self.labels = tuple(labels)
        self._size: tuple[int, int] | None = None
        self._sizes: list[tuple[int, int]] = []
        self._strip = torch.empty(0)
        self._notes: list[str] = []
        self._writer = FrameWriter(path, fps, crf=crf)

    @property
    def notes(self) -> list[str]:
        """One line for everything that was changed on the way."""
        return [*self._notes, *self._writer.notes]

    def write(self, *panels: Tensor) -> None:
        """Append one `(3, H, W)` or `(F, 3, H, W)` float tensor in [0, 1] per label, with equally many frames each.

        The first call fixes the size of every panel: the largest given, to which smaller ones are resized.

        Raises:
            VideoError: as many panels as labels were not given, their frames differ in number, or as `FrameWriter`.
        """
        if len(panels) != len(self.labels):
            raise VideoError(f"{len(panels)} panels for {len(self.labels)} labels; give one panel per label")
        batches = [checked_frames(panel) for panel in panels]
        if len({len(batch) for batch in batches}) > 1:
            raise VideoError(f"panels have {[len(batch) for batch in batches]} frames; they must have equally many")
        sizes = [(int(batch.shape[2]), int(batch.shape[3])) for batch in batches]
        if self._size is None:
            self._start(sizes)
        if sizes != self._sizes:
            raise VideoError(f"panel sizes (height, width) changed from {self._sizes} to {sizes}; keep them the same")
        assert self._size is not None
        height, width = self._size
        gap = torch.full((3, height, _GAP), _BACKGROUND)
        for index in range(len(batches[0])):
            row: list[Tensor] = []
            for batch in batches:
                row += [resize(batch[index], height, width), gap]
            self._writer.write(torch.cat([self._strip, torch.cat(row[:-1], dim=2)], dim=1))

    def _start(self, sizes: list[tuple[int, int]]) -> None:
        self._sizes = sizes
        height, width = self._size = max(sizes, key=lambda size: size[0] * size[1])
        strip_height = max(20, round(height / 14)) // 2 * 2
        gap = torch.full((3, strip_height, _GAP), _BACKGROUND)
        parts: list[Tensor] = []
        for label, size in zip(self.labels, sizes, strict=True):
            parts += [_label(label, width, strip_height), gap]
            if size != self._size:
                self._notes.append(f"{label}: resized from {size[1]}x{size[0]} to {width}x{height} to match")
        self._strip = torch.cat(parts[:-1], dim=2)

    def finish(self) -> None:
        """Complete the temporary without putting it in place; raises `VideoError` as `FrameWriter.finish`."""
        self._writer.finish()

    def close(self) -> None:
        """Finish the file and put it in place; raises `VideoError` as `FrameWriter.close`."""
        self._writer.close()

    def __enter__(self) -> SideBySideWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def contact_sheet(columns: dict[str, Tensor], path: str | os.PathLike[str], frames: int = 4) -> None:
    """Write a PNG with one row per clip: its label, `frames` evenly spaced frames, and a zoomed crop.

    The crop is the most detailed square of the largest clip's middle frame, a quarter of its height; every row shows
    the same place at the same moment, enlarged without smoothing so that a person sees the pixels.

    Args:
        columns: label → float `(F, 3, H, W)` in [0, 1]; clips may differ in size and length.
        path: ends in `.png`.
        frames: frames per row, at least 1.

    Raises:
        VideoError: no clip, frames that are not valid, or a file that cannot be written.
    """
    if not columns:
        raise VideoError("a contact sheet needs at least one clip")
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise VideoError(f"frames is {frames!r}; it must be a whole number, at least 1")
    if not str(path).lower().endswith(".png"):
        raise VideoError(f"{path}: a contact sheet is a picture; use .png")
    clips = {label: _picked(clip, frames) for label, clip in columns.items()}
    largest = max((middle for _, middle in clips.values()), key=lambda middle: middle.numel())
    place = _most_detailed(largest)
    aspect = largest.shape[2] / largest.shape[1]
    width = max(16, round(_THUMB_HEIGHT * aspect))
    rows = [_row(label, shown, middle, place, width) for label, (shown, middle) in clips.items()]
    gap = torch.full((3, _GAP, rows[0].shape[2]), _BACKGROUND)
    sheet = torch.cat([part for row in rows for part in (row, gap)][:-1], dim=1)
    from PIL import Image

    with AtomicFile(path) as file:
        with failures_told(path):
            Image.fromarray(as_bytes(sheet)).save(file.temporary, format="PNG")
        file.commit()


def _picked(clip: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """The evenly spaced frames to show, and the middle one for the crop."""
    if isinstance(clip, Tensor) and (clip.ndim not in (3, 4) or clip.shape[0] == 0):
        raise VideoError(f"a clip must be (F, 3, H, W) with at least one frame, found {tuple(clip.shape)}")
    clip = clip.unsqueeze(0) if isinstance(clip, Tensor) and clip.ndim == 3 else clip
    count = len(clip)
    indices = [round(float(x)) for x in torch.linspace(0, count - 1, frames)] if frames > 1 else [count // 2]
    return checked_frames(clip[indices]), checked_frames(clip[count // 2])[0]


def _most_detailed(frame: Tensor) -> tuple[float, float]:
    """Top and left, as shares of height and width, of the square with the most gradient energy."""
    grey = frame.mean(dim=0)
    energy = torch.zeros_like(grey)
    energy[:-1] += (grey[1:] - grey[:-1]).square()
    energy[:, :-1] += (grey[:, 1:] - grey[:, :-1]).square()
    side = max(8, round(min(grey.shape) * _CROP_SHARE))
    density = F.avg_pool2d(energy[None, None], side, stride=max(1, side // 8))[0, 0]
    top, left = divmod(int(density.argmax()), density.shape[1])
    step = max(1, side // 8)
    return top * step / grey.shape[0], left * step / grey.shape[1]


def _row(label: str, shown: Tensor, middle: Tensor, place: tuple[float, float], width: int) -> Tensor:
    height, pixels = _THUMB_HEIGHT, middle.shape[1:]
    gap = torch.full((3, height, _GAP), _BACKGROUND)
    side = max(8, round(min(pixels) * _CROP_SHARE))
    top = min(round(place[0] * pixels[0]), pixels[0] - side)
    left = min(round(place[1] * pixels[1]), pixels[1] - side)
    crop = middle[:, top : top + side, left : left + side]
    zoom = F.interpolate(crop[None], size=(height, height), mode="nearest")[0]
    parts = [_label(label, 150, 30)]
    pad = height - parts[0].shape[1]
    parts[0] = F.pad(parts[0], (0, 0, pad // 2, pad - pad // 2), value=_BACKGROUND)
    for frame in shown:
        parts += [gap, resize(frame, height, width)]
    return torch.cat([*parts, gap, zoom], dim=2)
