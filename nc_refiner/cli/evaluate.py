"""`nc-refiner evaluate`: how near outputs are to their references, in numbers and as a report."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files import AtomicFile, failures_told
from .options import option

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.alignment import Alignment
    from ..evaluation.measure import Measurement
    from ..evaluation.meters import Models
    from ..evaluation.report import Report

__all__ = ["evaluate"]

FORMATS, PAGES = (".json", ".csv"), (".html", ".htm")


def evaluate(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Video, picture, or folder of them.")],
    outputs: Annotated[list[Path], typer.Argument(metavar="OUTPUT…", help="What to compare with it: likewise.")],
    metrics: Annotated[str | None, option("Names with commas, or all (default: all that need no weights).")] = None,
    align: Annotated[str, option("Compare by index or by time (default auto: see below).")] = "auto",
    align_time: Annotated[bool, option("Find the best offset within 8 frames.", "--align-time")] = False,
    max_frames: Annotated[int | None, option("Only the first so many frames.")] = None,
    as_json: Annotated[bool, option("One JSON object on standard output.", "--json")] = False,
    as_csv: Annotated[bool, option("CSV on standard output.", "--csv")] = False,
    per_frame: Annotated[bool, option("In JSON: every frame's value too.", "--per-frame")] = False,
    output: Annotated[Path | None, option("Also write the numbers to this file, .json or .csv.")] = None,
    html: Annotated[Path | None, option("Write a report with players and drift map, one file.")] = None,
    html_megabytes: Annotated[float, option("Embed at most so much video in it (default 64).")] = 64.0,
    clip_weights: Annotated[Path | None, option("CLIP model's folder, for clip_iqa.")] = None,
    lpips_weights: Annotated[Path | None, option("AlexNet's weights, for lpips.")] = None,
    dover: Annotated[Path | None, option("Checkout of DOVER with its weights, for dover.")] = None,
    device: Annotated[str, option("Torch device of the learned metrics (default cpu).")] = "cpu",
    overwrite: Annotated[bool, option("Replace files that exist.", "--overwrite")] = False,
) -> None:
    """Measure every OUTPUT against REFERENCE: files, or folders whose files are matched by name.

    Of folders the means are told too, and those of every folder in them: one per kind of clip, for example.

    The reference is resized to the output (antialiased bicubic). Frames are compared by index where the rates agree or
    the clips have equally many frames, by time where both differ; the alignment is part of the result. A metric whose
    package or weights are missing is not measured, and the reason told; the others are.
    """
    from ..evaluation.meters import Models
    from .evaluate_overview import overview, print_overview
    from .evaluate_pairs import pairs_of, places_of
    from .evaluate_report import as_csv as _csv
    from .evaluate_report import as_json as _json
    from .evaluate_report import print_results

    if as_json and as_csv:
        raise ValueError("--json and --csv both want standard output; give one, and --output FILE for the other")
    if per_frame and not as_json and (output is None or output.suffix.lower() != ".json"):
        raise ValueError("--per-frame goes with --json, or with --output FILE.json")
    if not html_megabytes >= 0:
        raise ValueError(f"--html-megabytes is {html_megabytes}; it must be 0 or more")
    weights = {"clip_iqa": clip_weights, "lpips": lpips_weights, "dover": dover}
    names = _names(metrics, [name for name, path in weights.items() if path is not None])
    pairs, notes = pairs_of(reference, outputs)
    sources = [path for pair in pairs for path in pair]
    models = Models(clip=clip_weights, lpips=lpips_weights, dover=dover, device=device)
    with ExitStack() as stack:
        table_file = page_file = report = None
        if output is not None:
            table_file = stack.enter_context(_target(output, "--output", FORMATS, sources, overwrite))
        if html is not None:
            from ..evaluation.report import Report

            page_file = stack.enter_context(_target(html, "--html", PAGES, sources, overwrite))
            report = stack.enter_context(Report(limit_bytes=int(html_megabytes * 1e6)))
        results = _measured(pairs, names, align, align_time, max_frames, models, report)
        if all(value is None for result in results for value in result.metrics.values()):
            raise ValueError("nothing could be measured: " + "; ".join(results[0].not_measured.values()))
        found = overview(results, places_of(outputs, pairs))
        if table_file is not None:
            wanted_json = table_file.path.suffix.lower() == ".json"
            _write(table_file, _json(results, per_frame, found) if wanted_json else _csv(results))
        if page_file is not None and report is not None:
            _write(page_file, report.html([one.as_dict() for one in found]))
        for file in (table_file, page_file):
            if file is not None:
                file.commit()
    if as_json:
        typer.echo(_json(results, per_frame, found))
    elif as_csv:
        typer.echo(_csv(results), nl=False)
    else:
        print_results(results)
        print_overview(found)
    for note in [*notes, *(report.notes if report is not None else [])]:
        typer.echo(f"nc-refiner: note: {note}", err=True)
    if as_json or as_csv:
        missing = {f"{name}: {why}": None for r in results for name, why in r.not_measured.items()}
        for line in missing:
            typer.echo(f"nc-refiner: not measured: {line}", err=True)


def _names(given: str | None, learned: list[str]) -> tuple[str, ...]:
    """The metrics to measure: those named, and learned ones whose weights are."""
    from ..evaluation.catalogue import DEFAULT, chosen

    return chosen([*(DEFAULT if given is None else [name for name in given.split(",") if name.strip()]), *learned])


def _measured(
    pairs: list[tuple[Path, Path]],
    names: tuple[str, ...],
    align: str,
    align_time: bool,
    max_frames: int | None,
    models: Models,
    report: Report | None,
) -> list[Measurement]:
    from ..evaluation.measure import compared, measure
    from .progress import progress

    results = []
    # Every header is looked at before the long work starts.
    planned = [compared(*pair, mode=align, max_frames=max_frames) for pair in pairs]
    pixels = [alignment.output_size[0] * alignment.output_size[1] for alignment in planned]
    work = sum(one.frames * size for one, size in zip(planned, pixels, strict=True))
    frames = sum(alignment.frames for alignment in planned)
    with progress(frames, what="measuring", unit="frame", work=work) as advance:
        for (source, produced), size in zip(pairs, pixels, strict=True):

            def watch(
                alignment: Alignment, before: Tensor, after: Tensor, name: str = produced.name, size: int = size
            ) -> None:
                if report is not None:
                    report.watch(alignment, before, after)
                advance(name, len(after), len(after) * size)

            if report is not None:
                report.start(source)
            result = measure(
                source,
                produced,
                names,
                mode=align,
                align_time=align_time,
                max_frames=max_frames,
                models=models,
                watcher=watch,
            )
            if report is not None:
                report.add(result)
            results.append(result)
    return results


def _write(file: AtomicFile, text: str) -> None:
    with failures_told(file.path):
        file.temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _target(path: Path, option: str, endings: tuple[str, ...], sources: list[Path], overwrite: bool) -> AtomicFile:
    """The file to write, refused before the work starts and not after it."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{option} {path}: the name must end in {' or '.join(endings)}")
    if any(os.path.realpath(path) == os.path.realpath(source) for source in sources):
        raise ValueError(f"{option} {path} is one of the clips; choose another name")
    if path.is_file() and not overwrite:
        raise ValueError(f"{option} {path} exists; move it or pass --overwrite")
    return AtomicFile(path)
