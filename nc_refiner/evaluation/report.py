"""The HTML report: one file that needs nothing else and asks for nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ..pages import Embedded, render
from ..video import FrameWriter
from ..video.read import resize
from .alignment import Alignment
from .catalogue import METRICS
from .drift import DriftMap
from .extras import needs
from .measure import Measurement

__all__ = ["Report"]

PLAYER_WIDTH = 960
CRF = 18


@dataclass
class _Pair:
    """What one pair leaves behind for its place in the report."""

    measurement: Measurement
    drift: Tensor
    videos: tuple[str | None, str | None]


class Report:
    """Gathers what passes through `watch` and `add`, and writes the page; a context manager, for its temporary files.

    Args:
        limit_bytes: videos are embedded until they would take more than this together; those left out are told.

    Raises:
        ImportError: Jinja2 is not installed.
    """

    def __init__(self, limit_bytes: int = 64_000_000):
        with needs("jinja2", "jinja2"):
            import jinja2  # noqa: F401
        self._embedded = Embedded(limit_bytes, "raise --html-megabytes or use --max-frames")
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nc_refiner_report_")))
        self._pairs: list[_Pair] = []
        self._references: dict[tuple[Any, ...], str | None] = {}
        self._reference = Path()
        self._current: tuple[DriftMap, dict[str, FrameWriter]] | None = None

    @property
    def notes(self) -> list[str]:
        """One sentence for every video left out."""
        return self._embedded.notes

    def start(self, reference: Path) -> None:
        """The next frames that `watch` is given are compared with the file `reference`."""
        self._reference, self._current = reference, None

    def watch(self, alignment: Alignment, reference: Tensor, output: Tensor) -> None:
        """Take in the next aligned frames `(n, 3, H, W)` of the pair that `add` will name."""
        height, width = output.shape[-2:]
        if self._current is None:
            known = self._shared(alignment) in self._references
            writers = {
                side: FrameWriter(self._path(side), alignment.output_fps, crf=CRF)
                for side in (("output",) if known else ("reference", "output"))
            }
            for writer in writers.values():
                self._stack.callback(writer.abort)
            self._current = DriftMap(alignment.frames, height, width), writers
        drift, writers = self._current
        drift.add(reference, output)
        scale = min(1.0, PLAYER_WIDTH / width)
        size = (max(16, 2 * round(height * scale / 2)), max(16, 2 * round(width * scale / 2)))
        for side, writer in writers.items():
            writer.write(resize(reference if side == "reference" else output, *size))

    def _path(self, side: str) -> Path:
        return self._folder / f"{len(self._pairs)}_{side}.mp4"

    def _shared(self, alignment: Alignment) -> tuple[Any, ...]:
        """What outputs must have in common to share one copy of their reference."""
        size = alignment.output_size
        return self._reference, alignment.mode, alignment.offset, alignment.frames, alignment.output_fps, size

    def add(self, measurement: Measurement) -> None:
        """The pair whose frames were watched is complete."""
        if self._current is None:
            raise ValueError(f"no frame of {measurement.output} was watched")
        drift, writers = self._current
        for writer in writers.values():
            writer.close()
        shared = self._shared(measurement.alignment)
        if "reference" in writers:
            self._references[shared] = self._embed(self._path("reference"), measurement.reference.name)
        videos = self._references[shared], self._embed(self._path("output"), measurement.output.name)
        self._pairs.append(_Pair(measurement, drift.values(), videos))
        self._current = None

    def _embed(self, path: Path, name: str) -> str | None:
        """The key of an embedded video; None, with a note, where it would be too much."""
        content = path.read_bytes()
        path.unlink()
        return self._embedded.add(content, name)

    def html(self, overview: Sequence[Mapping[str, Any]] = ()) -> str:
        """The page.

        Args:
            overview: means of several clips, as `evaluate --json` gives them; they stand first.
        """
        from .report_overview import overview_of
        from .report_page import groups_of

        if not self._pairs:
            raise ValueError("the report has no pair to show")
        groups = groups_of([(pair.measurement, pair.drift, pair.videos) for pair in self._pairs])
        return render(
            "evaluate.html",
            "nc_refiner.evaluation",
            [group["player"] for group in groups],
            self._embedded.videos,
            "evaluate.js",
            self.notes,
            groups=groups,
            overview=overview_of(overview, [pair.measurement for pair in self._pairs]),
            metrics=[METRICS[name] for name in METRICS if any(name in group["names"] for group in groups)],
        )

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
