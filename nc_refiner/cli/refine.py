"""`nc-refiner refine`: options in, one job out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..adapters.registry import available
from ..calibration import NoiseCalibration
from ..receipt import read_receipt
from ..refinement import RefineSettings

__all__ = ["refine"]

DEMO_FOLDER = Path("nc_refiner_demo")


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, show_default=False)


def refine(
    input_: Annotated[Path | None, typer.Argument(metavar="INPUT", help="Video or picture to refine.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="Where to write it (.mp4, or .png).")] = None,
    refiner: Annotated[str | None, _option("Registered refiner (default embedded); see `nc-refiner refiners`.")] = None,
    iterations: Annotated[int | None, _option("Calibration iterations N; 0 is plain SDEdit (default 3).")] = None,
    cutoff: Annotated[float | None, _option("Threshold frequency, 0 to 1 of Nyquist (default 1).")] = None,
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
        if input_ is not None and output is not None:
            raise ValueError("--demo brings its own INPUT; give at most OUTPUT")
        input_, output, original = _demo_files(output or input_)
        compare = True
    if input_ is None or output is None:
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
        "max_frames": max_frames,
        "height": height,
    }
    if from_receipt is not None:
        chosen = _from_receipt(from_receipt, chosen)
    name = chosen.pop("refiner") or "embedded"
    if name not in available():
        raise KeyError(f"unknown refiner {name!r}; available: {', '.join(available())}")
    job = RefineJob(
        input_,
        output,
        refiner=name,
        adapter_options={} if device is None else {"device": device},
        calibration=NoiseCalibration(**_given(chosen, NoiseCalibration)),
        settings=RefineSettings(**_given(chosen, RefineSettings, ("guidance_scale",))),
        max_frames=chosen["max_frames"],
        height=chosen["height"],
        original=original if compare else None,
        compare=compare,
        overwrite=overwrite,
        show_progress=True,
    )
    report = job.run()
    if as_json:
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(report)


def _given(chosen: dict[str, Any], kind: type, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """The chosen options that are fields of `kind`; a guidance scale is the run's, not the calibration's."""
    fields = {name for name in kind.__dataclass_fields__ if name != "guidance_scale"} | set(also)  # type: ignore[attr-defined]
    return {name: value for name, value in chosen.items() if name in fields and value is not None}


def _demo_files(output: Path | None) -> tuple[Path, Path, Path]:
    from ..assets import demo_clip

    if output is None:
        DEMO_FOLDER.mkdir(exist_ok=True)
        output = DEMO_FOLDER / "refined.mp4"
    degraded, original = demo_clip()
    return degraded, output, original


def _from_receipt(path: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    clash = [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value is not None]
    if clash:
        raise ValueError(f"--from-receipt already decides {', '.join(clash)}; leave it out")
    receipt = read_receipt(path)
    repeated = {**receipt["settings"], **receipt["calibration"], **receipt.get("reading", {})}
    repeated["guidance_scale"] = receipt["settings"].get("guidance_scale")
    repeated["refiner"] = receipt["adapter"].get("name")
    return {name: repeated.get(name) for name in chosen}
