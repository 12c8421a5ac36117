"""Finds the rung for one window of frames, by running the likely ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ...adapters.base import RefinerAdapter
from ...calibration_options import NoiseCalibration
from ...evaluation.catalogue import METRICS
from ..fidelity import Fidelity
from ..settings import RefineSettings
from .ladder import Ladder, Rung
from .probe import first_estimate, models_of, value_of
from .search import Search
from .tuning import Tuning, built_in, read_tuning

__all__ = ["Chosen", "Found", "choose", "tuning_for"]


class _Run(Protocol):
    def run(self, frames: Tensor, count: int | None = None) -> Iterator[Tensor]: ...


Run = TypeVar("Run", bound=_Run)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        rung: what to run.
        record: for the receipt: `target`, `reached` (the value), `held`, `tried`, `runs`, `evaluations`, `tuning`.
        miss: what a person should know where the target was not reached; else None.
        off: by how much the tuning was off, for the next window's search.
    """

    rung: Rung
    record: dict[str, Any]
    miss: str | None
    off: float


@dataclass(frozen=True)
class Chosen(Generic[Run]):
    """A search and the run that is its answer.

    Attributes:
        found: of the search.
        frames: the output.
        run: the run that made it.
        notes: what a person should know of the tuning.
    """

    found: Found
    frames: Tensor
    run: Run
    notes: list[str]


def tuning_for(adapter: RefinerAdapter, settings: RefineSettings) -> tuple[Tuning, list[str]]:
    """The tuning that `settings` name, or the one that ships, and what is to be said of it.

    Raises:
        ValueError: not a tuning, or of another adapter, or it lacks the metric.
    """
    target = settings.keep
    if target is None:
        raise ValueError("there is no target to tune for; give keep")
    if settings.tuning is None:
        tuning = built_in()
        if tuning.adapter == adapter.name:
            return tuning, []
        return tuning, [f"keep starts from what holds for {tuning.adapter}; nc-refiner tune makes it quicker here"]
    tuning = read_tuning(Path(settings.tuning))
    if tuning.adapter != adapter.name:
        raise ValueError(f"{settings.tuning} was tuned for {tuning.adapter}, not {adapter.name}; tune again")
    if target.metric not in tuning.lines:
        have = ", ".join(tuning.lines)
        raise ValueError(f"{settings.tuning} knows {have}, not {target.metric}; tune again with its weights")
    return tuning, []


def choose(
    adapter: RefinerAdapter,
    settings: RefineSettings,
    calibration: NoiseCalibration,
    frames: Tensor,
    make: Callable[[NoiseCalibration, RefineSettings], Run],
    first: int = 0,
    off: float = 0.0,
) -> Chosen[Run]:
    """Run rungs on `frames` `(F, 3, H, W)` until the target is reached or out of reach.

    Args:
        adapter: the host.
        settings: with `keep`; `strength` is the highest allowed.
        calibration: N and ν of the ladder's lower half.
        frames: one window, at the size it is refined at.
        make: a run under a calibration and settings.
        first: number of the first frame in its clip.
        off: what another window of this clip found the tuning to be off by.

    Raises:
        ValueError: a tuning or a metric that does not fit.
        ImportError, FileNotFoundError: the metric lacks its package or its weights.
    """
    target = settings.keep
    tuning, notes = tuning_for(adapter, settings)
    assert target is not None
    models = models_of(target)
    # The frames have their size already.
    plain = replace(settings, keep=None, tuning=None, size=None, scale=None)
    ladder = Ladder.of(adapter.requirements, plain, calibration, tuning.strongest if settings.tuning else None)
    before = adapter.evaluations
    estimate = target.distance(value_of(target, frames, first_estimate(adapter, ladder, frames, first), models))
    search = Search(target, tuning, estimate, ladder.top, off)
    done: list[tuple[Rung, Tensor, Run]] = []
    while (height := search.next()) is not None:
        rung = ladder.rung(height)
        run = make(rung.calibration, rung.settings)
        output = torch.cat(list(run.run(frames, len(frames))))
        search.tell(rung.height, value_of(target, frames, output, models))
        done.append((rung, output, run))
    best = search.best()
    value = search.tried[best].value
    record = {
        "target": {target.metric: target.value},
        "reached": value,
        "held": target.held(value),
        "tried": [
            {
                "strength": rung.strength,
                "iterations": rung.calibration.iterations,
                "cutoff": rung.calibration.cutoff,
                target.metric: tried.value,
            }
            for (rung, _, _), tried in zip(done, search.tried, strict=True)
        ],
        "runs": len(done),
        "evaluations": adapter.evaluations - before,
        "tuning": settings.tuning or "built in",
    }
    rung, output, run = done[best]
    found = Found(rung, record, _miss(target, value, rung, ladder), search.off())
    return Chosen(found, output, run, notes)


def _miss(target: Fidelity, value: float, rung: Rung, ladder: Ladder) -> str | None:
    """What became of the target, where it was not reached."""
    if target.reached(value):
        return None
    label = METRICS[target.metric].label.partition(" ×")[0].partition(",")[0]
    found = f"keep {target}: {label} is {value:.4g}"
    if not target.held(value):
        return f"{found}, the nearest that was found; the target cannot be held here"
    if rung.height >= ladder.top - 0.01:
        return f"{found} at the strongest refinement allowed; the target leaves room for more"
    return f"{found}, the nearest that was found"
