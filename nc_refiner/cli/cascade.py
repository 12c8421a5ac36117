"""`nc-refiner cascade`: a config in, every stage's clip out."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from .interrupts import work_kept
from .options import option
from .progress import progress

__all__ = ["cascade"]


def cascade(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The cascade's YAML file.")] = None,
    overrides: Annotated[list[str] | None, option("Change a value: refiner.iterations=1.", "--set")] = None,
    prompt_file: Annotated[Path | None, option("Prompts, one a line, instead of the config's.")] = None,
    output: Annotated[Path | None, option("Folder for the results, instead of the config's.")] = None,
    resume: Annotated[bool, option("Go on with an earlier run; what has changed is made anew.", "--resume")] = False,
    stop_after: Annotated[str | None, option("Last stage to run: base, interpolation or refiner.")] = None,
    schema: Annotated[bool, option("Print the JSON Schema of the config and end.", "--schema")] = False,
    as_json: Annotated[bool, option("One JSON object on standard output.", "--json")] = False,
) -> None:
    """Run a cascade: base → interpolation → refiner, for every prompt.

    Each prompt gets a folder with every stage's clip and receipt, the final clip and a contact sheet. A stage that
    fails for one prompt does not stop the others; exit code 1 tells that there was one.
    """
    from ..cascade.config import load_config
    from ..cascade.prompts import read_prompts
    from ..cascade.runner import CascadeRunner
    from ..cascade.schema import schema_text
    from ..cascade.stages.base import KINDS, Kind
    from ..config.document import ConfigError

    if schema:
        sys.stdout.write(schema_text())
        return
    if config is None:
        raise ConfigError("CONFIG is needed; see nc-refiner cascade --help")
    last: Kind | None = next((kind for kind in KINDS if kind == stop_after), None)
    if last != stop_after:
        raise ConfigError(f"--stop-after is {stop_after!r}; allowed: {', '.join(KINDS)}")
    runner = CascadeRunner(
        load_config(config, overrides),
        prompts=None if prompt_file is None else read_prompts(prompt_file),
        output=output,
        resume=resume,
        stop_after=last,
        progress=lambda stage, total: progress(total, what=stage),
    )
    work_kept(f"finished stages stay in {runner.root}; --resume goes on with them")
    # A third party's model may print; with --json standard output is for the report alone.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        summary = runner.run()
    report = summary.report()
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report)
    if summary.failed:
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    for item in report["items"]:
        states = ", ".join(f"{stage} {state}" for stage, state in item["stages"].items())
        typer.echo(f"{item['name']}: {states}")
        for note in item["notes"]:
            typer.echo(f"  note: {note}")
        if item["error"]:
            typer.echo(f"  failed: {item['error']}")
        if item["final"]:
            typer.echo(f"  {item['final']}")
    failed, count = report["failed"], len(report["items"])
    ended = f", stopped after {report['stopped_after']}" if report["stopped_after"] else ""
    typer.echo(f"{count - failed} of {count} done{ended}; everything is in {report['output']}")
