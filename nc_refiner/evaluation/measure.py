"""One output against its reference, from file to numbers, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..naming import counted
from ..video import FrameReader
from .alignment import Alignment, align, aligned_blocks
from .catalogue import DEFAULT, TO_ORIGINAL
from .meters import Models, Numbers, PairMeter
from .offset import OffsetFinder, Shift, time_aligned

__all__ = ["Measurement", "alignment_notes", "compared", "frames_compared", "labels", "measure", "measure_frames"]

BLOCK_PIXELS = 4_000_000
"""Pixels that are measured at once: about 100 MB for each float64 copy."""
BLOCK_FRAMES = 16

Watcher = Callable[[Alignment, Tensor, Tensor], None]


@dataclass(frozen=True)
class Measurement:
    """What was measured of one pair.

    Attributes:
        reference, output: the files.
        metrics: name → mean over frames, None where it was not measured.
        reference_metrics: the reference's own value of metrics that look at one clip.
        not_measured: name → why.
        alignment: how the clips were laid over each other.
        per_frame: name → one value per compared frame, None where a frame has none.
        misaligned: a sentence where the clips would fit far better at another offset; empty otherwise.
    """

    reference: Path
    output: Path
    metrics: Numbers
    reference_metrics: Numbers
    not_measured: dict[str, str]
    alignment: Alignment
    per_frame: dict[str, list[float | None]]
    misaligned: str = ""

    def notes(self) -> list[str]:
        """What a person should know of the alignment."""
        return [*([self.misaligned] if self.misaligned else []), *self.alignment.notes()]

    def as_dict(self, per_frame: bool = False) -> dict[str, Any]:
        """JSON-ready, without NaN or infinity."""
        found = {
            "reference": str(self.reference),
            "output": str(self.output),
            "metrics": self.metrics,
            "reference_metrics": self.reference_metrics,
            "not_measured": self.not_measured,
            "alignment": {**self.alignment.as_dict(), "notes": self.notes()},
        }
        return {**found, "per_frame": self.per_frame} if per_frame else found


def labels(measurements: Sequence[Measurement]) -> list[str]:
    """Names of the outputs, with their folders where those alone would not tell them apart."""
    names = [measurement.output.name for measurement in measurements]
    if len(set(names)) == len(names):
        return names
    return ["/".join(measurement.output.parts[-2:]) for measurement in measurements]


def alignment_notes(measurements: Sequence[Measurement]) -> list[str]:
    """What a person should know of the alignments; said once where it holds for every output."""
    notes = [measurement.notes() for measurement in measurements]
    shared = [note for note in notes[0] if all(note in others for others in notes)]
    single = [
        f"{label}: {note}"
        for label, own in zip(labels(measurements), notes, strict=True)
        for note in own
        if note not in shared
    ]
    return shared + single


def frames_compared(
    reference: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    mode: str = "auto",
    max_frames: int | None = None,
) -> int:
    """How many frames `measure` would compare, from the headers alone; raises what it would raise at once."""
    return compared(reference, output, mode=mode, max_frames=max_frames).frames


def compared(
    reference: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    mode: str = "auto",
    max_frames: int | None = None,
) -> Alignment:
    """How `measure` would compare two files without looking for an offset, from the headers alone; raises as it."""
    with FrameReader(reference) as a, FrameReader(output, max_frames=max_frames) as b:
        return align(a, b, mode)


def measure(
    reference: str | os.PathLike[str],
    output: str | os.PathLike[str],
    metrics: Sequence[str] = DEFAULT,
    *,
    mode: str = "auto",
    max_frames: int | None = None,
    align_time: bool = False,
    models: Models | None = None,
    watcher: Watcher | None = None,
) -> Measurement:
    """Measure the file `output` against the file `reference`, streaming; colours are converted exactly.

    Args:
        reference, output: videos, or two pictures.
        metrics: names from `catalogue.METRICS`.
        mode: alignment, see `alignment.align`.
        max_frames: of the output, at most this many.
        align_time: look for the offset of up to 8 frames at which the clips fit best, and compare them there.
        models: weights of the learned metrics.
        watcher: called with the alignment and every pair of aligned blocks after it was measured.

    Raises:
        ValueError: a file that cannot be read, a picture against a video, or NaN.
    """
    alignment = compared(reference, output, mode=mode, max_frames=max_frames)
    width, height = alignment.output_size
    block = max(1, min(BLOCK_FRAMES, BLOCK_PIXELS // (height * width)))
    if align_time:
        with FrameReader(reference) as a, FrameReader(output, max_frames=max_frames) as b:
            alignment = time_aligned(a, b, alignment, block)
    finder = OffsetFinder()
    with (
        FrameReader(reference, exact_colour=True) as a,
        FrameReader(output, max_frames=max_frames, exact_colour=True) as b,
    ):
        meter = PairMeter(tuple(metrics), alignment.frames, b.height, b.width, models or Models())
        for before, after in aligned_blocks(a, b, alignment, block):
            meter.add(before, after)
            if not align_time:
                finder.add(before, after)
            if watcher is not None:
                watcher(alignment, before, after)
    found, own = meter.finish()
    said = _misaligned(finder.found())
    per_frame = meter.per_frame()
    return Measurement(Path(reference), Path(output), found, own, meter.not_measured, alignment, per_frame, said)


def _misaligned(shift: Shift) -> str:
    if not shift.far:
        return ""
    frames = counted(abs(shift.offset), "frame")
    return (
        f"the clips look shifted by {frames}: as compared they are {shift.by_default:.1f} times as far apart; "
        "compare them with --align-time"
    )


def measure_frames(
    reference: Tensor,
    output: Tensor,
    names: Sequence[str],
    models: Models | None = None,
    original: Tensor | None = None,
) -> Numbers:
    """Metric → value of frames in memory, None where it cannot be measured (SSIM of tiny frames, PSNR of equal clips).

    Args:
        reference, output, original: `(F, 3, H, W)` in [0, 1], all alike.
        names: of `catalogue.METRICS`; of those in `catalogue.FIDELITY` also with `TO_ORIGINAL`, which takes them to
            `original`.
        models: weights of the learned metrics.

    Raises:
        ValueError: NaN, or shapes that differ.
    """
    frames, _, height, width = output.shape
    found: Numbers = {}
    for target, suffix in ((reference, ""), (original, TO_ORIGINAL)):
        wanted = {name: name.removesuffix(TO_ORIGINAL) for name in names if name.endswith(TO_ORIGINAL) == bool(suffix)}
        if target is None or not wanted:
            continue
        meter = PairMeter(tuple(wanted.values()), frames, height, width, models or Models())
        for before, after in zip(target.split(BLOCK_FRAMES), output.split(BLOCK_FRAMES), strict=True):
            meter.add(before, after)
        values = meter.finish()[0]
        found |= {name: values[base] for name, base in wanted.items()}
    return found
