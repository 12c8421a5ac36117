"""`nc-refiner doctor`: what is installed, what each refiner needs, which device and how much memory there is."""

from __future__ import annotations

import json
import os
from importlib import metadata
from typing import Annotated, Any

import typer

from ..adapters.registry import available, diagnose
from .options import hanging, option

__all__ = ["doctor"]

PACKAGES = {
    "torch": "required",
    "safetensors": "required: the embedded refiner's weights",
    "av": "required: writing video, reading what decord cannot",
    "decord": "reading video (PyAV stands in where it is missing)",
    "diffusers": "diffusers pipelines: pip install nc_refiner[diffusers]",
    "modelscope": "ModelScope video-to-video: pip install nc_refiner[modelscope]",
    "xformers": "faster attention on a GPU where it has a kernel: pip install nc_refiner[xformers]",
}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except Exception:  # not installed, or installed so badly that its metadata cannot be read
        return None


def _memory() -> dict[str, float]:
    import torch

    found: dict[str, float] = {}
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        page = os.sysconf("SC_PAGE_SIZE")
        found["ram_total_gib"] = round(page * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
        found["ram_free_gib"] = round(page * os.sysconf("SC_AVPHYS_PAGES") / 2**30, 1)
    if torch.cuda.is_available():
        try:
            free, total = torch.cuda.mem_get_info()
        except RuntimeError:  # a device that is there but taken, or a driver of another age
            return found
        found["gpu_total_gib"], found["gpu_free_gib"] = round(total / 2**30, 1), round(free / 2**30, 1)
    return found


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    try:
        return torch.cuda.get_device_name()
    except RuntimeError as error:
        return f"a GPU that does not answer ({str(error).splitlines()[0]})"


def examine() -> dict[str, Any]:
    """Everything the doctor knows, JSON-ready."""
    from ..adapters.modelscope.diagnosis import problems, stood_in
    from ..refining.receipt import versions

    report = {
        "versions": versions(),
        "packages": {name: {"version": _version(name), "for": use} for name, use in PACKAGES.items()},
        "device": _device(),
        "memory": _memory(),
        "refiners": {name: diagnose(name) for name in available()},
        "modelscope": problems(needs_ffmpeg=True) + stood_in(),
    }
    return {**report, "next": next_steps(report)}


def next_steps(report: dict[str, Any]) -> list[str]:
    """What to do next on this machine, most useful first, from the rest of `examine`'s report."""
    packages = {name: entry["version"] is not None for name, entry in report["packages"].items()}
    required = [name for name, entry in report["packages"].items() if entry["for"].startswith("required")]
    missing = [name for name in required if not packages[name]]
    if missing:
        return [f"Install what is missing: pip install {' '.join(missing)}"]
    if report["refiners"].get("embedded") != "ready":
        return ["The embedded refiner cannot run (see above): install nc_refiner again"]
    steps = ["See it work: nc-refiner refine --demo", "Refine a clip of yours: nc-refiner refine in.mp4 out.mp4"]
    hosts = {"diffusers": "wan", "modelscope": "modelscope"}
    there = {package: host for package, host in hosts.items() if packages[package]}
    if there:
        host = next(iter(there.values()))
        steps.append(f"Make and refine clips from prompts: nc-refiner init --host {host}, then nc-refiner cascade")
    else:
        steps.append("Refine with a model you already use: pip install 'nc_refiner[diffusers]' (or [modelscope])")
    if report["device"].startswith("CPU"):
        steps.append("There is no GPU here: the embedded refiner is meant for that, large models are not")
    elif packages["xformers"] is False:
        steps.append("Attention may get faster on this GPU: pip install 'nc_refiner[xformers]'")
    return steps


def doctor(
    as_json: Annotated[bool, option("One JSON object on standard output.", "--json")] = False,
) -> None:
    """Show what is installed and what each refiner needs; exit code 1 if the default refiner cannot run.

    Nothing is imported or loaded for it but the refiners that can be built without options.
    """
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    missing = any(p["version"] is None and p["for"].startswith("required") for p in report["packages"].values())
    if missing or report["refiners"]["embedded"] != "ready":
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    for name, value in report["versions"].items():
        typer.echo(f"{name:<14} {value}")
    typer.echo(f"{'device':<14} {report['device']}")
    for kind in ("ram", "gpu"):
        if f"{kind}_total_gib" in report["memory"]:
            free, total = report["memory"][f"{kind}_free_gib"], report["memory"][f"{kind}_total_gib"]
            typer.echo(f"{kind.upper():<14} {free} GiB of {total} GiB free")
    typer.echo("\npackages")
    for name, entry in report["packages"].items():
        typer.echo(hanging(f"  {name:<14} {entry['version'] or 'not installed':<14} ", entry["for"]))
    typer.echo("\nrefiners")
    for name, state in report["refiners"].items():
        typer.echo(hanging(f"  {name:<14} ", state))
    if report["packages"]["modelscope"]["version"] is not None:
        typer.echo("\nModelScope's own pipeline")
        for line in report["modelscope"] or ["ready"]:
            typer.echo(hanging("  ", line))
    typer.echo("\nnext")
    for line in report["next"]:
        typer.echo(hanging("  ", line))
