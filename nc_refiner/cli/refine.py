"""`nc-refiner refine`: options in, one job out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..calibration import NoiseCalibration
from ..refinement import RefineSettings
from .repeat import Repeated, repeat

__all__ = ["refine"]

DEMO_FOLDER = Path("nc_refiner_demo")
CALIBRATION_OPTIONS = ("iterations", "cutoff", "tolerance", "reuse_prediction")


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, show_default=False)


def refine(
    input_: Annotated[Path | None, typer.Argument(metavar="INPUT", help="Video or picture to refine.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="Where to write it (.mp4, or .png).")] = None,
    refiner: Annotated[str | None, _option("Registered refiner (default embedded); see `nc-refiner refiners`.")] = None,
    iterations: Annotated[int | None, _option("Calibration iterations N; 0 is plain SDEdit (default 3).")] = None,
    cutoff: Annotated[float | None, _option("Threshold frequency, 0 to 1 of Nyquist (default: the refiner's).")] = None,
    strength: Annotated[float | None, _option("Share of the schedule that is run, above 0, at most 1.")] = None,
    start_timestep: Annotated[float | None, _option("Initial timestep, instead of --strength.")] = None,
    num_inference_steps: Annotated[int | None, _option("Steps of the whole schedule (default 30).")] = None,
    guidance_scale: Annotated[float | None, _option("Classifier-free guidance, where the refiner has it.")] = None,
    prompt: Annotated[str | None, _option("Text, where the refiner takes it.")] = None,
    negative_prompt: Annotated[str | None, _option("Text to steer away from, where the refiner takes it.")] = None,
    seed: Annotated[int | None, _option("Seed of every random draw (default 0).")] = None,
    reuse_prediction: Annotated[
        bool, _option("The last calibration prediction serves the first denoising step.", "--reuse-prediction")
    ] = False,
    tolerance: Annotated[float | None, _option("Stop calibrating once the content loss is below this.")] = None,
    window: Annotated[int | None, _option("Frames refined together (default: what the refiner takes).")] = None,
    overlap: Annotated[int | None, _option("Frames that neighbouring windows share (default 4).")] = None,
    max_latents_gib: Annotated[
        float | None, _option("Longer clips stream, windows faded in pixels (default 0.5 GiB of latents; 0: all).")
    ] = None,
    max_frames: Annotated[int | None, _option("Only the first so many frames.")] = None,
    height: Annotated[int | None, _option("Resize to this height first, in pixels.")] = None,
    device: Annotated[str | None, _option("Torch device, for example cuda or cpu.")] = None,
    compare: Annotated[
        bool, _option("Also run plain SDEdit from the same seed; side-by-side, contact sheet, table.", "--compare")
    ] = False,
    original: Annotated[Path | None, _option("With --compare: undegraded original; adds the PSNR to it.")] = None,
    demo: Annotated[bool, _option("--compare on the bundled clip; OUTPUT is optional.", "--demo")] = False,
    from_receipt: Annotated[Path | None, _option("Repeat the settings of an earlier run's receipt.")] = None,
    overwrite: Annotated[bool, _option("Replace files that an earlier refine did not write.", "--overwrite")] = False,
    as_json: Annotated[bool, _option("One JSON object on standard output.", "--json")] = False,
) -> None:
    """Refine INPUT into OUTPUT, keeping its content.

    Beside OUTPUT: NAME.json (fps, prompt, seed, history) and NAME.receipt.json (what the run did). With --compare
    also NAME.sdedit.mp4, NAME.compare.mp4 (reference, SDEdit, calibrated) and NAME.contact.png.
    """
    from .refine_job import RefineJob
    from .refine_report import print_report

    if demo:
        if original is not None or (input_ is not None and output is not None):
            raise ValueError("--demo brings its own INPUT and original; give at most OUTPUT")
        compare = True
    elif original is not None and not compare:
        raise ValueError("--original is what --compare measures against; pass --compare too")
    elif input_ is None or output is None:
        raise ValueError("INPUT and OUTPUT are needed (or --demo); see nc-refiner refine --help")
    chosen: dict[str, Any] = {
        "refiner": refiner,
        "iterations": iterations,
        "cutoff": cutoff,
        "tolerance": tolerance,
        "reuse_prediction": reuse_prediction or None,
        "strength": strength,
        "start_timestep": start_timestep,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "window": window,
        "overlap": overlap,
        "max_latents_gib": max_latents_gib,
        "max_frames": max_frames,
        "height": height,
    }
    plan = _planned(chosen) if from_receipt is None else _repeated(from_receipt, chosen)
    options = {} if device is None else {"device": _usable(device)}
    with _files(input_, output, original, demo) as (source, target, pristine):
        job = RefineJob(
            source,
            target,
            refiner=plan.refiner,
            adapter_options=options,
            calibration=plan.calibration,
            settings=plan.settings,
            max_frames=plan.max_frames,
            height=plan.height,
            original=pristine,
            compare=compare,
            overwrite=overwrite,
            show_progress=True,
            repeated=plan.receipt or None,
        )
        # A third party's adapter may print; with --json standard output is for the report alone.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            report = job.run()
    if as_json:
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(report)


def _planned(chosen: dict[str, Any]) -> Repeated:
    """The run that the options ask for; one that is not given is the default of what it belongs to."""
    given = {name: value for name, value in chosen.items() if value is not None}
    kept = {name: given.pop(name, None) for name in ("refiner", "max_frames", "height")}
    calibrating = {name: given.pop(name) for name in CALIBRATION_OPTIONS if name in given}
    return Repeated(
        kept["refiner"] or "embedded",
        NoiseCalibration(**calibrating),
        RefineSettings(**given),
        kept["max_frames"],
        kept["height"],
        {},
    )


def _repeated(path: Path, chosen: dict[str, Any]) -> Repeated:
    clash = [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value is not None]
    if clash:
        raise ValueError(f"--from-receipt already decides {', '.join(clash)}; leave one or the other out")
    return repeat(path)


def _usable(device: str) -> str:
    """`device` if a tensor can be put there and read back."""
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
