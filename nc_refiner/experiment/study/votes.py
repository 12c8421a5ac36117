"""A study and its votes in the store of experiments."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

from ..store.database import Store
from ..store.encoding import text
from ..store.records import derived_id
from .clips import Material

__all__ = ["Study", "Vote", "VoteBook", "open_study", "read_study"]


@dataclass(frozen=True)
class Study:
    """What was fixed when the study began; it is the same in every process on the same database.

    Attributes:
        name: of the study.
        arms, control: as in `Material`.
        items: name of every item → the digest of its clips.
        seed: of sides and orders.
        secret: key of the names that clips have in a browser.
    """

    name: str
    arms: tuple[str, ...]
    control: str
    items: Mapping[str, str]
    seed: int
    secret: str

    @property
    def comparisons(self) -> int:
        """How many comparisons each rater is asked for: every two arms on every item."""
        return comb(len(self.arms), 2) * len(self.items)


@dataclass(frozen=True)
class Vote:
    """One answer: of the arms on the left and the right, `choice` was preferred; `seconds` from shown to answered."""

    rater: str
    pair: str
    clip: str
    question: str
    choice: str
    left_arm: str
    right_arm: str
    seconds: float
    at: float = 0.0

    @property
    def arms(self) -> frozenset[str]:
        """The two arms, whatever their sides."""
        return frozenset((self.left_arm, self.right_arm))

    @property
    def source(self) -> str:
        """The clip that the pair was cut from; the pair itself in votes of before that was kept."""
        return self.clip or self.pair


class VoteBook:
    """The votes of one study in a store; every method may raise SQLAlchemy's `DBAPIError` or `StoreReplacedError`."""

    def __init__(self, store: Store, study: str):
        self.store, self.study = store, study

    def put(self, vote: Vote) -> None:
        """Write a vote; one by the same rater on the same comparison and question is replaced. Durable on return."""
        key = derived_id(self.study, vote.rater, vote.pair, *sorted(vote.arms), vote.question)
        row = {
            "id": key,
            "study": text(self.study),
            "rater": vote.rater,
            "pair": vote.pair,
            "clip": vote.clip,
            "question": vote.question,
            "choice": vote.choice,
            "left_arm": vote.left_arm,
            "right_arm": vote.right_arm,
            "seconds": vote.seconds,
            "at": vote.at or time.time(),
        }
        self.store.write([("votes", row)], replace=True)

    def all(self) -> list[Vote]:
        """Every vote of the study, oldest first."""
        return self._read(None)

    def of(self, rater: str) -> list[Vote]:
        """Every vote of one rater, oldest first."""
        return self._read(rater)

    def _read(self, rater: str | None) -> list[Vote]:
        from sqlalchemy import select

        from ..store.schema import votes as v

        columns = (
            v.c.rater,
            v.c.pair,
            v.c.clip,
            v.c.question,
            v.c.choice,
            v.c.left_arm,
            v.c.right_arm,
            v.c.seconds,
            v.c.at,
        )
        query = select(*columns).where(v.c.study == text(self.study)).order_by(v.c.at, v.c.id)
        if rater is not None:
            query = query.where(v.c.rater == rater)
        self.store.check()
        with self.store.engine.connect() as connection:
            return [Vote(*row) for row in connection.execute(query)]


def open_study(store: Store, name: str, material: Material, seed: int | None = None) -> Study:
    """The study called `name`: as it was begun or, the first time, begun now.

    Args:
        store: its schema up to date.
        name: 1 to 200 characters.
        material: its clips.
        seed: of sides and orders; by default a fresh one that is kept with the study.

    Raises:
        ValueError: a bad name; or it was begun with another seed, other arms or other clips.
    """
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise ValueError(f"--study {name!r}: a name has 1 to 200 printable characters")
    items = {item.pair: item.digest() for item in material.items}
    settings = {"arms": list(material.arms), "control": material.control, "items": items}
    row = {
        "id": derived_id(name),
        "study": text(name),
        "seed": secrets.randbits(63) if seed is None else seed,
        "secret": secrets.token_hex(16),
        "settings": settings,
        "at": time.time(),
    }
    store.write([("studies", row)])
    # Read back: another process may have been faster.
    study = read_study(store, name)
    for what, before, now in (
        ("arms", tuple(sorted(study.arms)), tuple(sorted(material.arms))),
        ("control", study.control, material.control),
        ("clips", dict(study.items), items),
        ("seed", study.seed, study.seed if seed is None else seed),
    ):
        if before != now:
            detail = "" if what == "clips" else f" ({_words(before)}, not {_words(now)})"
            raise ValueError(
                f"the study {name!r} was begun with other {what}{detail}; its votes would not fit, "
                "choose another name with --study"
            )
    return study


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def read_study(store: Store, name: str | None = None) -> Study:
    """The study called `name`, or the only one there is.

    Raises:
        ValueError: there is no such study, or several and no name.
    """
    from sqlalchemy import select

    from ..store.schema import studies as s

    query = select(s.c.study, s.c.seed, s.c.secret, s.c.settings).order_by(s.c.at)
    with store.engine.connect() as connection:
        found = {row[0]: row for row in connection.execute(query)}
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None or text(name) not in found:
        there = f"it holds {', '.join(found)}" if found else "it holds none"
        ask = "name one with --study" if name is None else f"there is no study {name!r} in it"
        raise ValueError(f"{store.name}: {ask}; {there}")
    _, seed, secret, settings = found[text(name)]
    return Study(name, tuple(settings["arms"]), settings["control"], settings["items"], int(seed), secret)
