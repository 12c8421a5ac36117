"""What `nc-refiner refine` measures while frames stream past; nothing but sums and a few frames is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from ..evaluation import FidelityMeter, spatial_frequency

__all__ = ["JobMeters", "SheetFrames", "take"]

Numbers = dict[str, float | None]


def take(frames: Iterator[Tensor], count: int, name: str) -> Tensor:
    """The next `count` frames as `(count, 3, H, W)`; ValueError where `name` holds fewer than its header said."""
    block = list(islice(frames, count))
    if len(block) < count:
        raise ValueError(f"{name}: ends before its header says; convert it again")
    return torch.stack(block)


class Average:
    """Running mean of a number per frame."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: Tensor) -> None:
        """Take in the next values `(n,)`."""
        self._sum += float(values.sum())
        self._count += len(values)

    def mean(self) -> float:
        """The mean so far."""
        return self._sum / self._count


class JobMeters:
    """Distances of every run to the reference and, where there is one, of everything to the undegraded original.

    Args:
        runs: names of the runs.
        original: frames `(3, H, W)` of the original, aligned with the reference; None where there is none.
        original_name: what to call it in an error.
    """

    def __init__(self, runs: Iterable[str], original: Iterator[Tensor] | None, original_name: str):
        names = list(runs)
        self._original, self._name = original, original_name
        self._to_reference = {name: FidelityMeter() for name in names}
        self._to_original = {name: FidelityMeter() for name in ("reference", *names)}
        self._detail, self._original_detail = Average(), Average()

    def add(self, reference: Tensor, outputs: dict[str, Tensor]) -> None:
        """Take in the next frames, all `(n, 3, H, W)` in [0, 1]."""
        self._detail.add(spatial_frequency(reference))
        for name, block in outputs.items():
            self._to_reference[name].add(reference, block)
        if self._original is None:
            return
        original = take(self._original, len(reference), self._name)
        self._original_detail.add(spatial_frequency(original))
        for name, block in {"reference": reference, **outputs}.items():
            self._to_original[name].add(original, block)

    def result(self, run: str) -> Numbers:
        """The numbers of one run."""
        found = self._to_reference[run].result()
        if self._original is not None:
            found["psnr_to_original"] = self._to_original[run].result()["psnr"]
        return found

    def reference(self) -> Numbers:
        """The numbers of the reference itself."""
        found: Numbers = {"spatial_frequency": self._detail.mean()}
        if self._original is not None:
            found["psnr_to_original"] = self._to_original["reference"].result()["psnr"]
            found["original_spatial_frequency"] = self._original_detail.mean()
        return found


class SheetFrames:
    """Keeps only the few frames that a contact sheet shows.

    Args:
        count: frames of the clip.
        shown: frames on the sheet.
    """

    def __init__(self, count: int, shown: int):
        shown = min(shown, count)
        self._wanted = {round(i * (count - 1) / max(1, shown - 1)) for i in range(shown)}
        self._kept: dict[str, list[Tensor]] = {}
        self._seen = 0

    def add(self, blocks: dict[str, Tensor]) -> None:
        """Take in the next frames of every clip, each `(n, 3, H, W)`."""
        count = len(next(iter(blocks.values())))
        for name, block in blocks.items():
            kept = self._kept.setdefault(name, [])
            kept += [block[i].clone() for i in range(count) if self._seen + i in self._wanted]
        self._seen += count

    def clips(self) -> dict[str, Tensor]:
        """The kept frames of every clip, `(shown, 3, H, W)`."""
        return {name: torch.stack(frames) for name, frames in self._kept.items()}
