"""From a folder or a database to the analysis of a study."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ...evaluation.extras import load
from ..offline.analyze import is_database
from ..store import open_store
from .analysis import StudyAnalysis, analyze_votes
from .serve import DATABASE
from .votes import VoteBook, read_study

__all__ = ["analyze_study"]


def analyze_study(
    place: str, name: str | None = None, *, control: str | None = None, alpha: float = 0.05
) -> StudyAnalysis:
    """Analyse a study in `place`, finished or not.

    Args:
        place: the folder that was served, or where its votes are: a URL, or an SQLite file.
        name: of the study; may be left out where there is only one.
        control, alpha: as for `analyze_votes`.

    Raises:
        ValueError: no study there, or several and no name. ImportError: a package of the `study` extra is missing.
    """
    load("sqlalchemy", "study")
    url = place
    if not is_database(place):
        file = Path(place) / DATABASE
        if not file.is_file():
            raise ValueError(
                f"{place} holds no {DATABASE}; give the folder of an `ab study`, or the --store its votes went to"
            )
        url = str(file)
    with closing(open_store(url, create=False)) as store:
        study = read_study(store, name)
        votes = VoteBook(store, study.name).all()
    return analyze_votes(study, votes, control, alpha)
