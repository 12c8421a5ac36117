"""From a folder or a database to an analysis."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ..metrics import Better
from ..statistics.analysis import Analysis, Options, analyze
from .results import Results, read_results

__all__ = ["Overrides", "analyze_database", "analyze_folder", "is_database"]


@dataclass(frozen=True)
class Overrides:
    """What the caller says against, or beyond, what the experiment's own file says; None or empty says nothing."""

    control: str | None = None
    primary: str | None = None
    guardrails: Mapping[str, str | float] = field(default_factory=dict)
    alpha: float | None = None
    sequential: bool | None = None
    planned: int | None = None
    better: Mapping[str, Better] = field(default_factory=dict)
    smallest_effect: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None


def is_database(place: str) -> bool:
    """Whether `place` is a database: a URL, or an SQLite file."""
    if "://" in place:
        return True
    path = Path(place)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def analyze_folder(folder: Path, overrides: Overrides | None = None) -> tuple[Analysis, Results]:
    """Analyse an offline run, finished or not; an unfinished one is decided by always-valid intervals.

    Raises:
        ValueError: not such a folder, or nothing in it that can be compared.
    """
    given = overrides or Overrides()
    results = read_results(folder)
    config, notes = results.config, []
    if not results.complete:
        notes.append(f"The run is not finished: {len(results.records)} of {results.planned} outputs are there.")
    clips = set(results.units.values())
    if len(clips) < len(results.units):
        notes.append(
            f"The {len(results.units)} units are pieces of {len(clips)} clip{'s' if len(clips) > 1 else ''}: the "
            "intervals speak about more pieces like these, not about other clips."
        )
    if len(config["seeds"]) > 1:
        notes.append(f"Each unit's value is the mean over {len(config['seeds'])} seeds.")
    options = Options(
        control=given.control or config["control"],
        primary=given.primary or config["primary"],
        guardrails={**config["guardrails"], **given.guardrails},
        alpha=given.alpha or config["alpha"],
        sequential=not results.complete if given.sequential is None else given.sequential,
        planned=given.planned or config["planned_units"] or max(2, len(results.units)),
        better=given.better,
        smallest_effect=given.smallest_effect,
        weights=given.weights,
    )
    return analyze(results.observations(), options, notes=notes), results


def analyze_database(url: str, experiment: str | None = None, overrides: Overrides | None = None) -> Analysis:
    """Analyse live traffic from the store at `url` (or an SQLite file); decided by always-valid intervals by default.

    Args:
        url: SQLAlchemy URL, or path of an SQLite file.
        experiment: its name; may be left out where the store holds only one.
        overrides: as for a folder; the control defaults to the arm called `control`.

    Raises:
        ValueError: no such experiment, or nothing that can be compared.
    """
    from ..store import open_store

    given = overrides or Overrides()
    with closing(open_store(url if "://" in url else f"sqlite:///{url}", create=False)) as store:
        name = experiment or _only(list(store.experiments()))
        observations, exposures = list(store.observations(name)), list(store.exposures(name))
    if not observations and not exposures:
        raise ValueError(f"the store holds nothing of an experiment called {name!r}")
    options = Options(
        control=given.control or "control",
        primary=given.primary,
        guardrails=given.guardrails,
        alpha=given.alpha or 0.05,
        sequential=True if given.sequential is None else given.sequential,
        planned=given.planned,
        better=given.better,
        smallest_effect=given.smallest_effect,
        weights=given.weights,
    )
    return analyze(observations, options, exposures)


def _only(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise ValueError("the store holds no experiment yet")
    raise ValueError(
        f"the store holds {len(names)} experiments ({', '.join(sorted(names))}); name one with --experiment"
    )
