"""`nc-refiner ab migrate` and `ab switch`: an experiment's database, and its kill switch."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Annotated

import typer

__all__ = ["migrate", "switch"]

Database = Annotated[str, typer.Argument(metavar="DATABASE", help="URL of the store, or path of an SQLite file.")]


def migrate(database: Database) -> None:
    """Bring the database's schema up to date; a missing SQLite file is made."""
    from ..experiment.store import open_store

    with closing(open_store(database)) as store:
        typer.echo(f"{store.name} is up to date")


def switch(
    database: Database,
    experiment: Annotated[str, typer.Argument(help="Name of the experiment.")],
    state: Annotated[str, typer.Argument(metavar="on|off", help="What it is to be.")],
    arm: Annotated[str, typer.Option(help="One arm (default: the whole experiment).")] = "",
    reason: Annotated[str, typer.Option(help="For the record.")] = "nc-refiner ab switch",
) -> None:
    """Kill switch: give everyone the control, in every running process on this database, without a restart."""
    from ..experiment.store import open_store
    from ..experiment.store.events import SwitchState
    from ..experiment.store.records import SwitchRecord

    if state not in ("on", "off"):
        raise ValueError(f"{state!r} is no state of a switch; write on or off")
    with closing(open_store(database, create=False)) as store:
        states = store.switches(experiment)
        known = store.experiments()
        if experiment not in known and not states:
            raise ValueError(f"the store holds no experiment {experiment!r}; it holds {', '.join(known) or 'none'}")
        # Later than the last state, whatever clock that one was set by.
        at = max([time.time(), *(known.at + 1e-3 for known in states)])
        store.write(SwitchRecord(experiment, SwitchState(arm, state == "on", reason, at)).rows())
    typer.echo(f"{experiment}{f', arm {arm}' if arm else ''}: {state}")
