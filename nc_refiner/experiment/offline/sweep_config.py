"""What a sweep is told: a YAML file, checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...baselines import BASELINES
from ...evaluation.catalogue import DEFAULT, chosen
from ...naming import did_you_mean

__all__ = ["SweepConfig", "SweepPlan", "load_config"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class SweepPlan(BaseModel):
    """Every setting that each clip is refined with.

    Attributes:
        iterations: N of each arm; 0 is plain SDEdit, to which all others are compared.
        cutoffs: ν of each arm, in [0, 1]; 0 is plain SDEdit again, and computed once.
        strengths: in (0, 1].
        seeds: each at least 0; a clip's value is the mean over them.
        num_inference_steps: of the whole schedule; None is the refiner's default.
        guidance_scale, prompt: where the refiner takes them.
        baselines: of `nc_refiner.baselines.BASELINES`.
        ilvr_cutoff: ν of ILVR.
        match_iterations: `matched_sdedit` is matched to this N, at each cutoff above 0.
        trace_iterations: follow the content loss over so many iterations at each cutoff, without denoising.
        metrics: names of the evaluation catalogue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: tuple[Count, ...] = Field(default=(0, 1, 2, 3), min_length=1)
    cutoffs: tuple[Fraction, ...] = Field(default=(1.0,), min_length=1)
    strengths: tuple[Strength, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(0,), min_length=1)
    num_inference_steps: Annotated[int, Field(ge=1)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    prompt: str | None = None
    baselines: tuple[str, ...] = ()
    ilvr_cutoff: Fraction = 0.5
    match_iterations: Annotated[int, Field(ge=1)] = 3
    trace_iterations: Count = 0
    metrics: tuple[str, ...] = DEFAULT

    @field_validator("baselines")
    @classmethod
    def _known_baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                raise ValueError(
                    f"unknown baseline {name!r}{_near(name, BASELINES)}; there are: {', '.join(BASELINES)}"
                )
        return names

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return chosen(names)


class RefinerChoice(BaseModel):
    """A registered refiner and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class SweepConfig(SweepPlan):
    """A plan, and what it runs on.

    Attributes:
        version: of this format: 1.
        refiners: registered names, or `{name, options}`.
        clips: folder of videos, beside the config file unless absolute; `demo` is the bundled clip.
        originals: folder of undegraded originals with the same names; adds `psnr_to_original`.
        frames: only the first so many of each clip.
        height: resize clips to this height first, in pixels.
        output: folder for table and report, beside the config file; `--output` goes first.
    """

    version: Literal[1] = 1
    refiners: tuple[RefinerChoice, ...] = Field(default=(RefinerChoice(name="embedded"),), min_length=1)
    clips: str
    originals: str | None = None
    frames: Annotated[int, Field(ge=1)] = 8
    height: Annotated[int, Field(ge=16)] | None = None
    output: str | None = None

    @field_validator("refiners", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        found = given if isinstance(given, (list, tuple)) else [given]
        return [{"name": item} if isinstance(item, str) else item for item in found]


def _near(name: str, known: Any) -> str:
    return did_you_mean(name, known, before=" (", after=")")


def load_config(path: Path) -> SweepConfig:
    """Read a sweep's YAML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, an unknown key (the nearest known one is named), or a value out of range; one line.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file (byte {error.start} is not UTF-8)") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path} must hold keys and values, such as `clips: demo`; found {type(given).__name__}")
    try:
        return SweepConfig(**{str(key): value for key, value in given.items()})
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(map(_told, error.errors()))) from None


def _told(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = RefinerChoice.model_fields if len(error["loc"]) > 1 else SweepConfig.model_fields
        return f"unknown key {where!r}{_near(str(error['loc'][-1]), known)}; there are: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    text = error["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" + ("" if error["type"] == "value_error" else f", found {error['input']!r}")
