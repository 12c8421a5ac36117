"""`nc-refiner ab study` and `ab study-results`: ask people which arm they prefer, and say what they answered."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ab_options import Alpha, Control, Json, check_alpha

if TYPE_CHECKING:
    from ..experiment.study.serve import Served

__all__ = ["study", "study_results"]


def study(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of `ab run`; or one with input/ and a folder per arm.")
    ],
    store: Annotated[
        str | None, typer.Option(help="URL of a database, or SQLite file, for the votes (default: DIR/study.db).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--study", help="Name of the study (default: the experiment's, or the folder's).")
    ] = None,
    arms: Annotated[
        str | None, typer.Option(metavar="A,B", help="Arms to compare (default: all, every two of them).")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every network this machine is in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")] = 8765,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that raters reach this machine by; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of sides and orders (default: a fresh one, kept).")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a blind preference page; stopped and started again, every rater goes on where they were."""
    from ..experiment.study.serve import is_loopback, serve

    if not is_loopback(host):
        typer.echo(
            f"nc-refiner: note: everyone who can reach {host} sees the clips and can vote, without a password or "
            "encryption; use it in a network you trust",
            err=True,
        )

    def ready(served: Served) -> None:
        for note in served.notes:
            typer.echo(f"nc-refiner: note: {note}", err=True)
        typer.echo(f"study {served.study}: {served.comparisons} comparisons per rater, votes in {served.store}")
        for url in served.urls:
            typer.echo(url)
        typer.echo("Ctrl-C stops it; votes are saved as they are given")
        if open_page:
            webbrowser.open(served.urls[0])

    try:
        serve(
            folder,
            store=store,
            name=name,
            arms=[arm.strip() for arm in arms.split(",")] if arms is not None else None,
            seed=seed,
            host=host,
            port=port,
            allowed=allow_host or (),
            ready=ready,
        )
    except KeyboardInterrupt:
        typer.echo(f"stopped; nc-refiner ab study-results {store or folder} says what the votes show")


def study_results(
    place: Annotated[str, typer.Argument(metavar="DIR|DATABASE", help="Folder of the study, or where its votes are.")],
    name: Annotated[
        str | None, typer.Option("--study", help="Name of the study, where a database holds several.")
    ] = None,
    control: Control = None,
    alpha: Alpha = None,
    as_json: Json = False,
) -> None:
    """Say what raters prefer, how surely, how far they agree, and when there is not enough data to say."""
    from ..experiment.study.reading import analyze_study
    from ..experiment.study.summary import as_data, as_lines

    check_alpha(alpha)
    analysis = analyze_study(place, name, control=control, alpha=0.05 if alpha is None else alpha)
    if as_json:
        typer.echo(json.dumps(as_data(analysis), indent=2, allow_nan=False))
        return
    for line in as_lines(analysis):
        typer.echo(line)
