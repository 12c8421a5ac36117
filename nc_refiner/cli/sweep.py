"""`nc-refiner sweep`: many settings over many clips, as a table and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .progress import progress

if TYPE_CHECKING:
    from ..adapters.base import RefinerAdapter
    from ..sweeps import SweepConfig

__all__ = ["sweep"]

TABLE, REPORT, PAGE = "table.parquet", "report.md", "report.html"
FIGURES = ("tradeoff.png", "content_loss.png")


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, such as configs/sweep_embedded.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: the config's, or sweep_NAME).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Refine a folder of clips under every setting of CONFIG into table.parquet, report.html, and report.md.

    Stopped at any moment, the same command goes on where it was: what is finished is kept in OUTPUT/cells and never
    computed twice, also when CONFIG has grown meanwhile.
    """
    from ..experiment.offline.restoring import Restorers
    from ..experiment.offline.results import CELLS
    from ..experiment.offline.sweeping import cells_in, keeper
    from ..sweeps import load_clips, load_config, run_plan

    chosen = load_config(config)
    here = config.resolve().parent
    folder = output or _below(here, chosen.output) or Path(f"sweep_{config.stem}")
    _needed_packages()
    clips = load_clips(
        None if chosen.clips == "demo" else _below(here, chosen.clips),
        _below(here, chosen.originals),
        chosen.frames,
        chosen.height,
    )
    adapters = [_adapter(choice) for choice in chosen.refiners]
    restorers = Restorers.of(chosen.restorers)
    _check_lengths(adapters, clips, chosen)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    keep = keeper(folder, chosen.keep_clips, chosen.seeds[0])
    done = 0
    try:
        with progress(sum(cells_in(chosen, adapter, clips) for adapter in adapters)) as advance:

            def on_cell(clip: str) -> None:
                nonlocal done
                done += 1
                advance(clip)

            for adapter in adapters:
                rows += run_plan(adapter, clips, chosen, folder / CELLS, on_cell, keep, restorers)
    except KeyboardInterrupt:
        kept = folder / CELLS
        typer.echo(f"nc-refiner: interrupted; {done} settings are kept in {kept}, the same command goes on", err=True)
        raise typer.Exit(1) from None
    _write(rows, folder, config.stem)
    report = {"rows": len(rows), "clips": len(clips), "table": str(folder / TABLE), "report": str(folder / REPORT)}
    report["page"] = str(folder / PAGE)
    made = ", ".join(str(folder / name) for name in (TABLE, REPORT, PAGE))
    typer.echo(json.dumps(report, indent=2) if as_json else f"{len(rows)} rows: {made}")


def _below(here: Path, given: str | None) -> Path | None:
    return None if given is None else here / given


def _adapter(choice: Any) -> RefinerAdapter:
    from ..adapters.registry import create

    try:
        return create(choice.name, **choice.options)
    except (KeyError, TypeError) as error:
        text = error.args[0] if error.args else error
        raise ValueError(f"refiners: {choice.name}: {text}") from error


def _needed_packages() -> None:
    """What the table and the report are written with; missing, it should be told before hours of work."""
    from ..evaluation.extras import needs

    with needs("pyarrow", "pyarrow"):
        import pyarrow  # noqa: F401
    with needs("scipy", "scipy"):
        import scipy  # noqa: F401
    with needs("matplotlib", "matplotlib"):
        import matplotlib  # noqa: F401
    with needs("jinja2", "jinja2"):
        import jinja2  # noqa: F401


def _check_lengths(adapters: list[RefinerAdapter], clips: Any, chosen: SweepConfig) -> None:
    from ..experiment.offline.sweeping import strengths_of
    from ..sweeps import Bench

    for adapter in adapters:
        if chosen.baselines != ("input",) and chosen.baselines and adapter.owns_trajectory:
            raise ValueError(f"baselines: {adapter.name} runs its own solver; only `input` can be had over it")
        for clip in clips if not chosen.alone else ():
            bench = Bench(adapter, clip, chosen)
            for strength in strengths_of(chosen, adapter):
                bench.timesteps(strength)


def _check_folder(folder: Path) -> None:
    from ..experiment.offline.results import CELLS

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CELLS).is_dir():
        raise ValueError(f"{folder} holds other things than a sweep; give an empty or a new folder with --output")


def _write(rows: list[dict[str, Any]], folder: Path, name: str) -> None:
    from ..experiment.offline.results import write_parquet
    from ..experiment.reports.figures import draw_losses, draw_tradeoff
    from ..experiment.reports.markdown import markdown
    from ..experiment.reports.sweep_page import sweep_page
    from ..files import write_text

    write_parquet(rows, folder / TABLE)
    drawn = [draw(rows, folder / figure) for draw, figure in zip((draw_tradeoff, draw_losses), FIGURES, strict=True)]
    figures = [figure for figure, there in zip(FIGURES, drawn, strict=True) if there]
    write_text(folder / REPORT, markdown(rows, f"Sweep {name}", figures)).commit()
    write_text(folder / PAGE, sweep_page(rows, f"Sweep {name}", folder)).commit()
