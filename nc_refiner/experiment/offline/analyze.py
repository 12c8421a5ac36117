"""From a folder or a database to an analysis."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluation.catalogue import Better
from ...evaluation.extras import load
from ..statistics.analysis import Analysis, analyze
from ..statistics.deciding import skewed
from ..statistics.options import Options
from ..statistics.power import PlanReport, plan
from ..statistics.samples import samples
from .results import Results, read_results

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Overrides", "analyze_database", "analyze_folder", "is_database", "planned"]


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
        there = f"{len(results.records)} of {results.planned}"
        notes.append(f"The run is not finished: {there} outputs are there.")
    clips = set(results.units.values())
    parts = [
        *(["its pieces"] if len(clips) < len(results.units) else []),
        *([f"{len(config['seeds'])} seeds"] if len(config["seeds"]) > 1 else []),
    ]
    if parts:
        notes.append(
            f"Each clip's value is the mean over {' and '.join(parts)}: they are not independent of each other."
        )
    segmented_by, segments = results.segments
    options = Options(
        control=given.control or config["control"],
        primary=given.primary or config["primary"],
        guardrails={**config["guardrails"], **given.guardrails},
        alpha=given.alpha or config["alpha"],
        sequential=not results.complete if given.sequential is None else given.sequential,
        planned=given.planned or config["planned_units"] or max(2, len(clips)),
        better=given.better,
        smallest_effect=given.smallest_effect,
        weights=given.weights,
        unit="clip",
        fixed=results.complete,
        segments=segments,
        segmented_by=segmented_by,
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
        notes = _missing(store, name)
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
    return analyze(observations, options, exposures, notes)


def _missing(store: Store, name: str) -> list[str]:
    """What was recorded and is not among the observations."""
    from ..store.outbox import waiting_in
    from ..store.urls import outbox_folder

    notes = []
    letters = len(store.dead_letters(name))
    if letters:
        notes.append(
            f"{letters} record{'s were' if letters > 1 else ' was'} refused by the database and not counted here: "
            "nc-refiner ab dead-letters shows why, and writes them again."
        )
    folder = outbox_folder(store.url)
    waiting = waiting_in(folder)
    if waiting:
        notes.append(f"{waiting} record{'s wait' if waiting > 1 else ' waits'} in {folder} for the database.")
    return notes


def _only(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise ValueError("the store holds no experiment yet")
    raise ValueError(
        f"the store holds {len(names)} experiments ({', '.join(sorted(names))}); name one with --experiment"
    )


def planned(
    pilot: Path | None, *, metric: str | None, arm: str | None, effect: float | None, sd: float | None, **design: Any
) -> PlanReport:
    """Plan from a pilot's folder, or from `sd` and `effect`; `design` as in `plan`.

    Raises:
        ValueError: neither or both of `pilot` and `sd`, no effect, no such metric or arm, or too small a pilot.
    """
    asked = design.get("units") is not None
    if (pilot is None) == (sd is None):
        raise ValueError("give either --pilot DIR or --sd, and the --effect that matters")
    if pilot is None:
        assert sd is not None
        if effect is None:
            raise ValueError("without a pilot the smallest --effect that matters must be given")
        return PlanReport(plan(effect, sd, **design), asked, None, ())
    results = read_results(pilot)
    control, name = results.config["control"], metric or results.config["primary"]
    found = {key: sample for key, sample in samples(results.observations(), control).items() if key[0] == name}
    arms = [key[1] for key in found]
    if not found:
        raise ValueError(f"the pilot has no pairs with {name}; measured: {', '.join(results.config['metrics'])}")
    if arm is None and len(arms) > 1:
        raise ValueError(f"the pilot has several arms; choose one with --arm: {', '.join(arms)}")
    chosen = arm or arms[0]
    if chosen not in arms:
        raise ValueError(f"the pilot has no arm {chosen!r} to compare with {control}; it has {', '.join(arms)}")
    sample = found[name, chosen]
    count = len(sample.units)
    if count < 3:
        clips = "1 clip" if count == 1 else f"{count} clips"
        raise ValueError(f"the pilot has {clips} with {name}; at least 3 are needed to know their spread")
    values = sample.differences if design.get("paired", True) else sample.control
    spread = float(np.std(values, ddof=1))
    if spread <= 1e-12 * float(np.abs(values).max()):
        raise ValueError(f"{name} does not vary over the pilot's clips; its difference is certain without a plan")
    # (n − 1) s² / σ² is chi-square: a small pilot may have come out too even by luck.
    upper = spread * float(np.sqrt((count - 1) / load("scipy.stats").chi2.ppf(0.2, count - 1)))
    notes = [f"Pilot: {name}, {chosen} against {control}, {count} clips, observed difference {sample.difference:.3g}."]
    if sample.paired and skewed(sample.differences):
        notes.append(
            "The pilot's differences are skewed: if those of the experiment are too, Wilcoxon's rank test will decide, "
            "and these numbers, which are the t test's, are a guess."
        )
    if effect is None:
        effect = sample.difference
        notes.append("The observed difference served as the effect, a mere guess; give the --effect that matters.")
    return PlanReport(plan(effect, spread, **design), asked, plan(effect, upper, **design), tuple(notes))
