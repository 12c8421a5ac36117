"""`nc-refiner tune`: learns how far a refiner goes, so that `--keep` needs fewer runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config.refiner import RefinerDescription
from .options import option, with_description
from .progress import progress

if TYPE_CHECKING:
    from ..config.refiner import SDEditDescription

__all__ = ["tune"]

NAME = "tuning.json"


@with_description(RefinerDescription, "backbone", "keep", "tuning")
def tune(
    *,
    clips: Annotated[list[Path], typer.Argument(metavar="CLIPS...", help="Videos such as will be refined; about ten.")],
    output: Annotated[Path | None, option(f"File to write (default {NAME}, beside --config).")] = None,
    config: Annotated[Path | None, option("A cascade's file: its refiner, instead of the options here.")] = None,
    refiner: Annotated[str | None, option("Registered refiner (default embedded); see `nc-refiner refiners`.")] = None,
    described: dict[str, Any],
    prompt: Annotated[str | None, option("Text, where the refiner takes it.")] = None,
    seed: Annotated[int | None, option("Seed of every random draw (default 0).")] = None,
    max_frames: Annotated[int, option("Frames of each clip (default 4).")] = 4,
    height: Annotated[int | None, option("Resize to this height before anything else, in pixels.")] = None,
    lpips_weights: Annotated[Path | None, option("Weights of AlexNet: tune for LPIPS too.")] = None,
    overwrite: Annotated[bool, option("Replace an earlier tuning.", "--overwrite")] = False,
) -> None:
    """Learn from CLIPS how far a refiner goes, for --keep.

    Every clip is refined nine times, from gently to strongly. Give the file that is written to refine as --tuning, or
    name it in a config beside keep. --strength is the strongest that keep may choose.
    """
    from .. import video
    from ..evaluation.meters import Models
    from ..refiner import CalibratedRefiner
    from ..refining.keeping.tuning import write_tuning
    from ..refining.settings import RefineSettings
    from ..refining.tune import METRICS, runs_for
    from ..refining.tune import tune as learn

    target = output or (config.parent / NAME if config is not None else Path(NAME))
    if target.exists() and not overwrite:
        raise ValueError(f"{target} is there already; give another --output, or --overwrite to replace it")
    description = _description(config, refiner, described)
    asked: dict[str, Any] = {
        name: value for name, value in {"prompt": prompt, "seed": seed}.items() if value is not None
    }
    settings = RefineSettings(**{**description.settings(), "keep": None, "tuning": None}, **asked)
    frames = [video.read_clip(path, max_frames=max_frames, height=height).frames for path in clips]
    metrics = METRICS if lpips_weights is None else (*METRICS, "lpips")
    models = Models(lpips=lpips_weights)
    models.require(metrics)
    built = CalibratedRefiner.from_description(description)
    with progress(runs_for(len(frames)), what="tuning", unit="run") as advance:
        found = learn(
            built.adapter, frames, built.calibration, settings, metrics, models, on_run=lambda: advance("tuning")
        )
    write_tuning(found, target)
    typer.echo(f"{target}: {found.adapter}, {found.clips} clips, {', '.join(found.lines)}")


def _description(config: Path | None, refiner: str | None, described: dict[str, Any]) -> SDEditDescription:
    from ..adapters.registry import available
    from ..config.refiner import read_refiner
    from ..naming import unknown_name

    if config is None:
        name = refiner or "embedded"
        if name not in available():
            raise unknown_name("refiner", name, available())
        return RefinerDescription.model_validate({"backbone": {"adapter": name}, **described})
    clash = [f"--{name.replace('_', '-')}" for name in (*(["refiner"] if refiner else []), *described)]
    if clash:
        raise ValueError(f"--config already decides {', '.join(clash)}; leave one or the other out")
    return read_refiner(config)
