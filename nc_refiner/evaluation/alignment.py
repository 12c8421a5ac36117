"""Which frame of a reference an output's frame is compared with, and at what size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..naming import counted
from ..video import FrameReader
from ..video.read import resize

__all__ = ["FAR", "MODES", "REACH", "Alignment", "align", "aligned_blocks"]

MODES = ("auto", "index", "time")
SAME_RATE = 0.01
"""Relative difference up to which two frame rates are one."""


REACH = 8
"""Frames by which an output may turn out to be shifted."""
FAR = 2.0
"""Clips that are so many times as far apart as they would be at another offset are badly aligned."""


@dataclass(frozen=True)
class Alignment:
    """How two clips were laid over each other.

    Attributes:
        mode: `index` (frame i with frame i) or `time` (with the reference's frame that is nearest in time).
        frames: frames that are compared.
        reference_frames, output_frames: frames there are.
        reference_fps, output_fps: frames per second.
        reference_size, output_size: width and height in pixels.
        offset: frames of the output by which the reference is ahead: 3 compares the output's frame 0 with what the
            reference shows 3 frames later.
        by_default: how far apart the clips are without the offset, as a multiple of the distance with it; None where no
            offset was looked for.
    """

    mode: str
    frames: int
    reference_frames: int
    output_frames: int
    reference_fps: float
    output_fps: float
    reference_size: tuple[int, int]
    output_size: tuple[int, int]
    offset: int = 0
    by_default: float | None = None

    def reference_index(self, index: int) -> int:
        """The reference's frame for frame `index` of the output; below 0 where there is none."""
        at = index + self.offset
        return at if self.mode == "index" or at < 0 else int(at * self.reference_fps / self.output_fps + 0.5)

    @property
    def first(self) -> int:
        """The first frame of the output that is compared."""
        return max(0, -self.offset)

    def shifted(self, offset: int, by_default: float | None, most: int) -> Alignment:
        """The first `most` frames of the output compared at `offset`."""
        found = replace(self, offset=offset, by_default=by_default)
        frames = sum(0 <= found.reference_index(i) < self.reference_frames for i in range(most))
        return replace(found, frames=frames)

    @property
    def resized(self) -> bool:
        """Whether the reference was brought to the output's size."""
        return self.reference_size != self.output_size

    def notes(self) -> list[str]:
        """What a person should know of it; empty where the clips agree."""
        found = []
        if self.resized:
            (a, b), (c, d) = self.reference_size, self.output_size
            stretch = "" if abs(a * d / (b * c) - 1) < 0.01 else ", which changes its proportions"
            found.append(f"reference resized from {a}×{b} to {c}×{d}, antialiased bicubic{stretch}")
        if self.mode == "time":
            rates = f"reference at {self.reference_fps:g} fps, output at {self.output_fps:g} fps"
            found.append(f"compared by time, with the nearest frame: {rates}")
        elif abs(self.reference_fps / self.output_fps - 1) >= SAME_RATE:
            rates = f"{self.reference_fps:g} and {self.output_fps:g} fps"
            found.append(f"compared by frame number although the rates differ ({rates})")
        if self.by_default is not None:
            found.append(self._shift())
        last = self.reference_index(self.first + self.frames - 1)
        if self.frames < self.output_frames or last < self.reference_frames - 2:
            found.append(
                f"{counted(self.frames, 'frame')} compared of {self.reference_frames} in the reference and "
                f"{self.output_frames} in the output"
            )
        elif self.mode == "index" and self.frames < self.reference_frames:
            found.append(
                f"the reference's last frame has no partner: {self.frames} of {self.reference_frames} compared"
            )
        return found

    def _shift(self) -> str:
        """What looking for an offset found."""
        if not self.offset:
            return f"aligned in time: no offset of up to {REACH} frames is better than none"
        where = "later" if self.offset > 0 else "earlier"
        frames = counted(abs(self.offset), "frame")
        said = f"aligned in time: every frame is compared with what the reference shows {frames} {where}"
        if self.by_default is not None and self.by_default >= FAR:
            said += f"; without this offset the clips are {self.by_default:.1f} times as far apart"
        return said

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: every attribute, `resized`, `resampling` and `notes`."""
        return {
            "mode": self.mode,
            "frames": self.frames,
            "offset": self.offset,
            "reference_frames": self.reference_frames,
            "output_frames": self.output_frames,
            "reference_fps": self.reference_fps,
            "output_fps": self.output_fps,
            "reference_size": list(self.reference_size),
            "output_size": list(self.output_size),
            "resized": self.resized,
            "resampling": "antialiased bicubic" if self.resized else None,
            "notes": self.notes(),
        }


def align(reference: FrameReader, output: FrameReader, mode: str = "auto") -> Alignment:
    """Decide how `output` is compared with `reference`.

    `auto` goes by frame number where the frame rates agree (to 1 %) or the clips have equally many frames, as a refiner
    maps frame to frame and containers often carry another rate; by time where both differ. The surplus of the longer
    clip is left out. The reference is resized to the output's size.

    Args:
        reference, output: opened files.
        mode: `auto`, `index` or `time`.

    Raises:
        ValueError: another mode, or a picture against a video.
    """
    if mode not in MODES:
        raise ValueError(f"alignment is {mode!r}; it must be one of {', '.join(MODES)}")
    a, b = reference.info, output.info
    if a.still != b.still:
        still, moving = (a, b) if a.still else (b, a)
        raise ValueError(f"{still.path} is a picture and {moving.path} a video; compare two of a kind")
    rates_agree = abs(a.fps / b.fps - 1) < SAME_RATE
    if mode == "auto":
        mode = "index" if rates_agree or a.frames == b.frames else "time"
    found = Alignment(
        mode=mode,
        frames=output.frames,
        reference_frames=a.frames,
        output_frames=b.frames,
        reference_fps=a.fps,
        output_fps=b.fps,
        reference_size=(reference.width, reference.height),
        output_size=(output.width, output.height),
    )
    # Of the output as it was opened: at most so many frames of it are compared.
    frames = sum(1 for i in range(output.frames) if found.reference_index(i) < reference.frames)
    return replace(found, frames=frames)


def aligned_blocks(
    reference: FrameReader, output: FrameReader, alignment: Alignment, block: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of blocks `(≤ block, 3, H, W)` in [0, 1] of the output's size, in order; memory is bounded by the block.

    Raises:
        ValueError: a file that ends before its header says.
    """
    references = enumerate(reference)
    outputs = iter(output)
    number, frame = -1, torch.empty(0)
    width, height = alignment.output_size
    end = alignment.first + alignment.frames
    for _ in range(alignment.first):
        next(outputs, None)
    for start in range(alignment.first, end, block):
        pair: tuple[list[Tensor], list[Tensor]] = ([], [])
        for index in range(start, min(start + block, end)):
            wanted = alignment.reference_index(index)
            while number < wanted:
                number, frame = next(references, (-1, frame))
                if number < 0:
                    raise ValueError(f"{reference.info.path}: ends before its header says; convert it again")
                if number == wanted:
                    frame = resize(frame, height, width)
            produced = next(outputs, None)
            if produced is None:
                raise ValueError(f"{output.info.path}: ends before its header says; convert it again")
            pair[0].append(frame)
            pair[1].append(produced)
        yield torch.stack(pair[0]), torch.stack(pair[1])
