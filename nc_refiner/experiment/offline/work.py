"""The one engine behind sweeps and `ab run`: many arms on many clips, each output once, resumable at every moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .results import CellStore

__all__ = ["Row", "Work", "finish"]

Row = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Work(Generic[Key]):
    """Outputs of one clip that are made together, because their arms share what they have in common.

    Attributes:
        clip: its name.
        keys: arm → key of its cell.
        rows: makes those of the arms that are asked for, each as soon as it is known.
    """

    clip: str
    keys: Mapping[Key, str]
    rows: Callable[[list[Key]], Iterable[tuple[Key, Row]]]


def finish(
    work: Iterable[Work[Key]], cells: CellStore, on_cell: Callable[[str], None] = lambda clip: None
) -> Iterator[dict[Key, Row]]:
    """Per piece of work its rows, in the order of its keys: those that `cells` holds, and the others made now.

    Args:
        work: what there is to do.
        cells: finished cells. The same cells give the same rows, in whatever order and by however many runs they were
            made.
        on_cell: called with the clip's name after each cell.
    """
    for one in work:
        found = {arm: row for arm, key in one.keys.items() if (row := cells.get(key)) is not None}
        for _ in found:
            on_cell(one.clip)
        missing = [arm for arm in one.keys if arm not in found]
        for arm, row in one.rows(missing) if missing else ():
            cells.put(one.keys[arm], row)
            found[arm] = row
            on_cell(one.clip)
        yield {arm: found[arm] for arm in one.keys}
