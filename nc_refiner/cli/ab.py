"""`nc-refiner ab`: run an offline comparison, analyse it or live traffic, plan how much data it needs, ask people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import ab_store, ab_study
from .ab_options import Alpha, Control, Json, check_alpha, directions, numbers, texts
from .options import PlainCommand, PlainGroup
from .progress import progress

__all__ = ["ab"]

ab = typer.Typer(
    cls=PlainGroup,
    name="ab",
    help="A/B tests of refiners: run, analyze, plan; ask people with study.",
    no_args_is_help=True,
)
ab.command(cls=PlainCommand)(ab_store.migrate)
ab.command(cls=PlainCommand)(ab_store.switch)
ab.command(cls=PlainCommand, name="dead-letters")(ab_store.dead_letters)
ab.command(cls=PlainCommand)(ab_study.study)
ab.command(cls=PlainCommand, name="study-results")(ab_study.study_results)


@ab.command(cls=PlainCommand)
def run(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="Arms, clips, seeds, metrics.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: the experiment's name, here).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device (default: the adapter's choice).")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")] = False,
) -> None:
    """Refine every clip with every arm and seed on the same noise; run again, it goes on where it was stopped."""
    from ..experiment.offline.config import load_config
    from ..experiment.offline.run import OfflineRun

    config = load_config(experiment)
    folder = output or Path(config.experiment)
    work = OfflineRun(config, experiment.parent, folder, device)
    try:
        with progress(work.outputs, not quiet) as advance:
            made = work.run(advance)
    except KeyboardInterrupt:
        typer.echo(f"nc-refiner: interrupted; what is done is kept in {folder}, the same command goes on", err=True)
        raise typer.Exit(1) from None
    report = {"experiment": config.experiment, "folder": str(folder), "outputs": work.outputs, "made": made}
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{work.outputs} outputs in {folder}, {made} of them made now")
    typer.echo(f"nc-refiner ab analyze {folder} says what they show")


@ab.command(cls=PlainCommand)
def analyze(
    place: Annotated[str, typer.Argument(metavar="DIR|DATABASE", help="Folder of `ab run`, or the store's URL.")],
    html: Annotated[Path | None, typer.Option(help="Also write a report, one file that needs nothing else.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Name of the experiment, where a store holds several.")] = None,
    control: Control = None,
    primary: Annotated[str | None, typer.Option(help="The metric that decides.")] = None,
    guardrail: Annotated[
        list[str] | None, typer.Option(help="METRIC=LIMIT, e.g. seconds=1.2x or error=0.01; repeatable.")
    ] = None,
    better: Annotated[
        list[str] | None, typer.Option(help="METRIC=lower, =higher or =neither, for metrics of your own; repeatable.")
    ] = None,
    smallest_effect: Annotated[
        list[str] | None, typer.Option(help="METRIC=AMOUNT too small to matter; repeatable.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="ARM=SHARE, with commas: how units were to be shared out.")
    ] = None,
    planned: Annotated[
        int | None, typer.Option(min=2, help="Units for which always-valid intervals are tightest; fixed beforehand.")
    ] = None,
    alpha: Alpha = None,
    one_look: Annotated[
        bool | None,
        typer.Option(
            "--one-look/--sequential",
            help="Whether this is the only look at a number of units fixed in advance (default: a finished folder is).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which arm is better, by how much, how surely, and when there is not enough data to say."""
    from ..experiment.offline.analyze import Overrides, analyze_database, analyze_folder, is_database
    from ..experiment.reports.text import as_data, as_lines

    check_alpha(alpha)
    overrides = Overrides(
        control=control,
        primary=primary,
        guardrails=texts("--guardrail", guardrail),
        alpha=alpha,
        sequential=None if one_look is None else not one_look,
        planned=planned,
        better=directions(better),
        smallest_effect=numbers("--smallest-effect", smallest_effect),
        weights=numbers("--weights", weights.split(",")) if weights else None,
    )
    results: Any = None
    if is_database(place):
        analysis = analyze_database(place, experiment, overrides)
    else:
        analysis, results = analyze_folder(Path(place), overrides)
    if html is not None:
        from ..experiment.reports.html import write_report

        write_report(analysis, html, results)
    if as_json:
        typer.echo(json.dumps(as_data(analysis), indent=2, allow_nan=False))
        return
    for line in as_lines(analysis):
        typer.echo(line)
    if html is not None:
        typer.echo(f"report: {html}")


@ab.command(cls=PlainCommand)
def plan(
    pilot: Annotated[Path | None, typer.Option(help="Folder of a finished or unfinished `ab run`.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of the pilot (default: its primary one).")] = None,
    arm: Annotated[str | None, typer.Option(help="Arm of the pilot (default: the only other one).")] = None,
    effect: Annotated[float | None, typer.Option(help="Smallest difference that matters (default: pilot's).")] = None,
    sd: Annotated[float | None, typer.Option(help="Standard deviation over units, without a pilot.")] = None,
    power: Annotated[float, typer.Option(help="Probability of showing the effect.")] = 0.8,
    units: Annotated[int | None, typer.Option(help="Say the power of this many units instead.")] = None,
    comparisons: Annotated[int, typer.Option(min=1, help="Metrics × arms that are corrected for.")] = 1,
    alpha: Alpha = None,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Every unit is given one arm.")] = False,
    sequential: Annotated[bool, typer.Option("--sequential", help="Always-valid intervals decide.")] = False,
    as_json: Json = False,
) -> None:
    """Say how many units are needed to show an effect, or how likely a number of units shows it."""
    from ..experiment.offline.analyze import planned

    found = planned(
        pilot,
        metric=metric,
        arm=arm,
        effect=effect,
        sd=sd,
        power=power,
        units=units,
        alpha=(0.05 if alpha is None else alpha) / comparisons,
        paired=not unpaired,
        sequential=sequential,
    )
    if as_json:
        typer.echo(json.dumps(found.data(), indent=2, allow_nan=False))
        return
    for line in found.lines():
        typer.echo(line)
