"""`nc-refiner refine`: options in, one job out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config.refiner import RefinerDescription, calibration_fields
from ..refining.settings import RefineSettings
from .options import option, with_description

if TYPE_CHECKING:
    from ..refining.repeat import RefineRequest

__all__ = ["refine"]

DEMO_FOLDER = Path("nc_refiner_demo")
DEMO_FRAMES = 10
"""Enough to see that it is a video, and the face behind the butterfly; all 16 take half as long again."""


@with_description(RefinerDescription, "backbone")
def refine(
    *,
    input_: Annotated[Path | None, typer.Argument(metavar="INPUT", help="Video or picture to refine.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="Where to write it (.mp4, or .png).")] = None,
    refiner: Annotated[str | None, option("Registered refiner (default embedded); see `nc-refiner refiners`.")] = None,
    described: dict[str, Any],
    prompt: Annotated[str | None, option("Text, where the refiner takes it.")] = None,
    negative_prompt: Annotated[str | None, option("Text to steer away from, where the refiner takes it.")] = None,
    seed: Annotated[int | None, option("Seed of every random draw (default 0).")] = None,
    max_frames: Annotated[int | None, option("Only the first so many frames.")] = None,
    height: Annotated[int | None, option("Resize to this height before anything else, in pixels.")] = None,
    device: Annotated[str | None, option("Torch device, for example cuda or cpu.")] = None,
    compare: Annotated[
        bool, option("Also run plain SDEdit from the same seed; side-by-side, contact sheet, table.", "--compare")
    ] = False,
    original: Annotated[Path | None, option("With --compare: undegraded original; adds the PSNR to it.")] = None,
    demo: Annotated[bool, option("--compare on 10 frames of a bundled clip; OUTPUT is optional.", "--demo")] = False,
    from_receipt: Annotated[Path | None, option("Repeat the settings of an earlier run's receipt.")] = None,
    overwrite: Annotated[bool, option("Replace files that an earlier refine did not write.", "--overwrite")] = False,
    as_json: Annotated[bool, option("One JSON object on standard output.", "--json")] = False,
) -> None:
    """Refine INPUT into OUTPUT, keeping its content.

    Beside OUTPUT: NAME.json (fps, prompt, seed, history) and NAME.receipt.json (what the run did). With --compare
    also NAME.sdedit.mp4, NAME.compare.mp4 (reference, SDEdit, calibrated) and NAME.contact.png.
    """
    from ..refining.repeat import repeat
    from .refine_job import RefineJob
    from .refine_table import print_report

    if demo:
        if original is not None or (input_ is not None and output is not None):
            raise ValueError("--demo brings its own INPUT and original; give at most OUTPUT")
        compare = True
        if max_frames is None and from_receipt is None:
            max_frames = DEMO_FRAMES
    elif original is not None and not compare:
        raise ValueError("--original is what --compare measures against; pass --compare too")
    elif input_ is None or output is None:
        raise ValueError("INPUT and OUTPUT are needed (or --demo); see nc-refiner refine --help")
    asked = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    settings = {name: value for name, value in asked.items() if value is not None}
    reading = {"refiner": refiner, "max_frames": max_frames, "height": height}
    reading = {name: value for name, value in reading.items() if value is not None}
    if from_receipt is None:
        request = _request(described, settings, reading)
    else:
        clash = [f"--{name.replace('_', '-')}" for name in (*reading, *described, *settings)]
        if clash:
            raise ValueError(f"--from-receipt already decides {', '.join(clash)}; leave one or the other out")
        request = repeat(from_receipt)
    options = {} if device is None else {"device": _usable(device)}
    with _files(input_, output, original, demo) as (source, target, pristine):
        job = RefineJob(
            source,
            target,
            request,
            adapter_options=options,
            original=pristine,
            compare=compare,
            overwrite=overwrite,
            show_progress=True,
        )
        # A third party's adapter may print; with --json standard output is for the report alone.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            report = job.run()
    if as_json:
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(report)


def _request(described: dict[str, Any], settings: dict[str, Any], reading: dict[str, Any]) -> RefineRequest:
    """The run that the options ask for; one that is not given is the default of what it belongs to."""
    from ..calibration import NoiseCalibration
    from ..refining.repeat import RefineRequest

    known = {field.name for field in fields(RefineSettings)}
    chosen = {name: value for name, value in described.items() if name in known}
    return RefineRequest(
        calibration=NoiseCalibration(**calibration_fields(described)),
        settings=RefineSettings(**chosen, **settings),
        own_cutoff="cutoff" not in described,
        **reading,
    )


def _usable(device: str) -> str:
    """`device` if a tensor can be put there and read back."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        backends = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        usable = ", ".join(["cpu", *(name for name, there in backends.items() if there)])
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}); here there is: {usable}") from error
    return device


@contextmanager
def _files(
    input_: Path | None, output: Path | None, original: Path | None, demo: bool
) -> Iterator[tuple[Path, Path, Path | None]]:
    """Input, output and original; for the demo the bundled clip, and a folder that goes again on failure."""
    from ..assets import demo_clip

    if not demo:
        assert input_ is not None and output is not None
        yield input_, output, original
        return
    degraded, original = demo_clip()
    given = output or input_
    if given is not None:
        yield degraded, given, original
        return
    made = not DEMO_FOLDER.exists()
    try:
        DEMO_FOLDER.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {DEMO_FOLDER} cannot be made here ({error.strerror}); give an OUTPUT") from error
    try:
        yield degraded, DEMO_FOLDER / "refined.mp4", original
    except BaseException:
        if made:
            with suppress(OSError):
                DEMO_FOLDER.rmdir()
        raise
