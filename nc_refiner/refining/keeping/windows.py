"""Runs that hold a target: what suits it is searched for every window of the clip by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...adapters.encode_once import EncodeOnce
from ...calibration import NoiseCalibration, is_identity
from ..settings import RefineSettings
from ..windows import sliding
from .choosing import Found, choose

if TYPE_CHECKING:
    from ..run import Refinement

__all__ = ["Keeping"]


class Keeping:
    """Several runs over one stream under one target; those that do not calibrate run at what was chosen.

    A clip of one window is run at what was chosen for it, and its receipt names that. Of a longer clip every window has
    its own strength and ν, starting from what the last one taught, and the windows fade into each other in pixels.

    Args:
        runs: as `refine_together` takes them, their settings with `keep`.

    Raises:
        ValueError: none that calibrates, or some that calibrate in different ways.
    """

    def __init__(self, runs: Sequence[Refinement]):
        self.runs, self.lead = runs, runs[0]
        self.settings = self.lead.settings
        calibrated = [run.calibration for run in runs if not is_identity(run.calibration)]
        if not calibrated or any(one != calibrated[0] for one in calibrated):
            raise ValueError("keep needs calibration: iterations of at least 1 and a cutoff above 0")
        self.calibration = calibrated[0]
        self.found: list[Found] = []

    def run(self, frames: Iterable[Tensor], window: int, overlap: int, count: int | None) -> Iterator[Tensor]:
        """Blocks of all runs as further channels, of frames `(3, H, W)` at the size they are refined at."""
        frames = iter(frames)
        head = list(islice(frames, window + 1))
        if len(head) <= window:
            yield self._window(torch.stack(head), 0, len(head), alone=True)
            (found,) = self.found
            for run in self.runs:
                run.settle(found.rung.settings, found.rung.calibration.cutoff)
                run.kept = found.record
            if found.miss is not None:
                self._note(found.miss)
            return
        self._note(
            f"refined in windows of {window} frames that share {overlap}, each at what keep chose for it, calibrated "
            "one by one and faded in pixels"
        )
        stream = chain(head, frames)
        del head
        yield from sliding(stream, window, overlap, lambda block, first: self._window(block, first, count))
        for run in self.runs:
            run.kept = self._record()
        self._note(*self._missed())

    def _window(self, frames: Tensor, first: int, count: int | None, alone: bool = False) -> Tensor:
        adapter = EncodeOnce(self.lead.adapter)

        def make(calibration: NoiseCalibration, settings: RefineSettings) -> Refinement:
            return self.lead.piece(adapter, calibration, settings, (first, count))

        off = self.found[-1].off if self.found else 0.0
        chosen = choose(adapter, self.settings, self.calibration, frames, make, first, off)
        found = chosen.found
        self.found.append(found)
        self._note(*chosen.notes)
        said = {} if alone else {"strength": found.rung.strength, "cutoff": found.rung.calibration.cutoff}
        done = []
        for run in self.runs:
            piece, output = chosen.run, chosen.frames
            if is_identity(run.calibration):
                piece = make(run.calibration, found.rung.settings)
                output = torch.cat(list(piece.run(frames, len(frames))))
            run.adopt(piece, **said)
            done.append(output)
        return torch.cat(done, dim=1)

    def _record(self) -> dict[str, Any]:
        """Of all windows: the value of the one that kept least, whether all hold, and each window's own record."""
        target = self.settings.keep
        assert target is not None
        records = [one.record for one in self.found]
        windows = [
            {**run, **{name: record[name] for name in ("reached", "held", "tried", "runs", "evaluations")}}
            for run, record in zip(self._places(), records, strict=True)
        ]
        return {
            "target": records[0]["target"],
            "reached": max((record["reached"] for record in records), key=target.distance),
            "held": all(record["held"] for record in records),
            "runs": sum(record["runs"] for record in records),
            "evaluations": sum(record["evaluations"] for record in records),
            "tuning": records[0]["tuning"],
            "windows": windows,
        }

    def _places(self) -> list[dict[str, Any]]:
        return [{name: window[name] for name in ("first", "frames")} for window in self.lead.windows]

    def _missed(self) -> list[str]:
        """One line of all windows that missed the target."""
        missed = [(place["first"], one.miss) for place, one in zip(self._places(), self.found, strict=True) if one.miss]
        if not missed:
            return []
        first, words = missed[0]
        count = f"{len(missed)} of {len(self.found)} windows missed the target (the receipt has each)"
        return [f"keep: {count}; the one at frame {first}: {words.removeprefix('keep ')}"]

    def _note(self, *texts: str) -> None:
        for run in self.runs:
            for text in texts:
                run.note(text)
