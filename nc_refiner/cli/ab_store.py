"""`nc-refiner ab migrate`, `ab switch`, `ab dead-letters`: an experiment's database, its kill switch, its refusals."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from .ab_options import Json

__all__ = ["dead_letters", "migrate", "switch"]

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


def dead_letters(
    database: Database,
    experiment: Annotated[str | None, typer.Option(help="Of this experiment only.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Write them again; what is taken now is no letter.")] = False,
    as_json: Json = False,
) -> None:
    """Show the records that the database refused, and why; or write them again."""
    from ..experiment.store import open_store
    from ..experiment.store.encoding import replayed

    with closing(open_store(database, create=False)) as store:
        taken = replayed(store, experiment) if replay else 0
        letters = store.dead_letters(experiment)
    if as_json:
        typer.echo(json.dumps({"stored": taken, "letters": [asdict(letter) for letter in letters]}, indent=2))
        return
    if replay:
        typer.echo(f"{taken} written, {len(letters)} refused again")
    for letter in letters:
        typer.echo(f"{letter.id}  {letter.experiment}  {letter.reason}")
    if not replay:
        typer.echo(f"{len(letters)} dead letter{'' if len(letters) == 1 else 's'}")
