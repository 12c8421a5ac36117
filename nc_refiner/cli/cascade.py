"""`nc-refiner cascade`: a config in, every stage's clip out."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .interrupts import work_kept
from .options import option
from .progress import progress

if TYPE_CHECKING:
    from ..cascade.config import CascadeConfig

__all__ = ["cascade"]


def cascade(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The cascade's YAML file.")] = None,
    overrides: Annotated[list[str] | None, option("Change a value: refiner.iterations=1.", "--set")] = None,
    prompt_file: Annotated[Path | None, option("Prompts, one a line, instead of the config's.")] = None,
    manifest: Annotated[
        str | None, option("CSV, JSON Lines or Parquet, a row a clip: id, prompt, seed, source, more; a file or URL.")
    ] = None,
    output: Annotated[str | None, option("Folder for the results, instead of the config's; on Ray a URL too.")] = None,
    resume: Annotated[bool, option("Go on with an earlier run; what has changed is made anew.", "--resume")] = False,
    stop_after: Annotated[str | None, option("Last stage to run: base, interpolation or refiner.")] = None,
    workers: Annotated[int | None, option("Run on Ray, on this machine or --ray's: workers per pool.")] = None,
    ray: Annotated[
        str | None, option("Run on a Ray cluster: host:port, or auto (the default).", metavar="[ADDRESS]")
    ] = None,
    timeout: Annotated[float | None, option("On Ray: seconds a stage may take for one clip.")] = None,
    max_attempts: Annotated[
        int, option("On Ray: tries of a clip that hangs or kills its process (default 2).", min=1)
    ] = 2,
    retry_failed: Annotated[
        bool, option("On Ray, with --resume: try clips again that failed.", "--retry-failed")
    ] = False,
    metrics_port: Annotated[int | None, option("On Ray: serve Prometheus metrics on this port of 127.0.0.1.")] = None,
    schema: Annotated[bool, option("Print the JSON Schema of the config and end.", "--schema")] = False,
    as_json: Annotated[
        bool, option("One JSON object on standard output; on Ray one a line for every event.", "--json")
    ] = False,
) -> None:
    """Run a cascade: base → interpolation → refiner, for every prompt.

    Each prompt gets a folder with every stage's clip and receipt, the final clip and a contact sheet. A stage that
    fails for one prompt does not stop the others; exit code 1 tells that there was one.

    With --workers or --ray the clips are made by many processes on Ray, and a table of results is written beside them.
    """
    from ..cascade.config import load_config
    from ..cascade.manifest import read_manifest
    from ..cascade.prompts import read_prompts
    from ..cascade.schema import schema_text
    from ..cascade.sources import is_url
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
    if prompt_file is not None and manifest is not None:
        raise ConfigError("--prompt-file and --manifest both say which clips are made; give one of them")
    read = load_config(config, overrides)
    given: dict[str, Any] = {
        "prompts": None if prompt_file is None else read_prompts(prompt_file),
        "items": None if manifest is None else read_manifest(manifest, read.seed),
        "output": None if output is None else output if is_url(output) else Path(output),
        "resume": resume,
        "stop_after": last,
    }
    if workers is None and ray is None:
        if timeout is not None or retry_failed or metrics_port is not None:
            raise ConfigError(
                "--timeout, --retry-failed and --metrics-port are for a run on Ray; add --workers or --ray"
            )
        _here(read, given, as_json)
    else:
        more = {"timeout": timeout, "max_attempts": max_attempts, "retry_failed": retry_failed}
        _on_ray(read, {**given, **more, "workers": workers, "address": ray}, as_json, metrics_port)


def _here(config: CascadeConfig, given: dict[str, Any], as_json: bool) -> None:
    from ..cascade.runner import CascadeRunner

    runner = CascadeRunner(config, progress=lambda stage, total: progress(total, what=stage), **given)
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


def _on_ray(config: CascadeConfig, given: dict[str, Any], as_json: bool, metrics_port: int | None) -> None:
    from ..cascade.cluster import ClusterRunner
    from .cascade_cluster import Board, json_lines, metrics, print_report

    watchers: list[Any] = [json_lines] if as_json else [Board()]
    if metrics_port is not None:
        watchers.append(metrics(metrics_port))

    def watch(event: dict[str, Any]) -> None:
        for watcher in watchers:
            watcher(event)

    runner = ClusterRunner(config, watch=watch, **given)
    work_kept(f"finished stages stay in {runner.root}; --resume goes on with them")
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        summary = runner.run()
    if not as_json:
        print_report(summary)
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
