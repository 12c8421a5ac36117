"""`nc-refiner serve`: refiners behind an endpoint, on Ray Serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import option

if TYPE_CHECKING:
    from ..serving.run import Serving

__all__ = ["serve"]


def serve(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The server's YAML file.")] = None,
    overrides: Annotated[list[str] | None, option("Change a value: serve.port=9000.", "--set")] = None,
    ray: Annotated[
        str | None, option("Address of a running Ray cluster (default: Ray is started on this machine).", "--ray")
    ] = None,
    schema: Annotated[bool, option("Print the JSON Schema of the config and end.", "--schema")] = False,
) -> None:
    """Serve a refiner, or the arms of an A/B test, over HTTP: hand in a clip, ask for the job, fetch the result.

    SIGTERM or Ctrl-C: no new jobs, those that are there are finished; a second one ends it at once. Needs
    pip install 'nc_refiner[serve]'.
    """
    from ..config.document import ConfigError
    from ..serving.config import load_config, schema_text

    if schema:
        sys.stdout.write(schema_text())
        return
    if config is None:
        raise ConfigError("CONFIG is needed; see nc-refiner serve --help")
    checked = load_config(config, overrides)
    from ..serving.run import serve as run

    def ready(serving: Serving) -> None:
        arms = ", ".join(f"{name} ({count})" for name, count in serving.replicas.items())
        typer.echo(f"serving {arms} on {serving.url}, jobs in {serving.folder}")
        if not serving.token:
            typer.echo("reachable from this machine alone, without a token")
        sys.stdout.flush()

    def ending() -> None:
        typer.echo("nc-refiner: no new jobs; finishing those that are there", err=True)

    if not run(checked, config.resolve().parent, ray, ready, ending):
        typer.echo("nc-refiner: some jobs are not finished; the next server on the same folder does them", err=True)
        raise typer.Exit(1)
