"""The YAML file of an offline experiment: arms, clips, seeds, metrics, guardrails."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ...adapters.registry import available
from ...calibration import NoiseCalibration
from ...naming import did_you_mean
from ...refining.run import RefineSettings
from ..measure import EVALUATED, FIDELITY, learned
from ..metrics import METRICS

__all__ = ["ArmConfig", "ClipConfig", "ExperimentConfig", "Pieces", "load_config", "parse_limit"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MEASURED = (*FIDELITY, "spatial_frequency", "content_loss", "seconds", "evaluations")
"""Measured where the file names nothing: they need neither further packages nor weights."""
CALIBRATION = ("iterations", "cutoff", "reuse_prediction", "tolerance")
SETTINGS = (
    "prompt",
    "negative_prompt",
    "strength",
    "start_timestep",
    "num_inference_steps",
    "guidance_scale",
    "window",
    "overlap",
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmConfig(_Strict):
    """One refiner: `refiner: nc | sdedit` (or just that word), and whatever differs from the experiment's settings."""

    refiner: Literal["nc", "sdedit"]
    adapter: dict[str, Any] | None = None
    iterations: int | None = None
    cutoff: float | None = None
    reuse_prediction: bool | None = None
    tolerance: float | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    start_timestep: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    window: int | None = None
    overlap: int | None = None

    @model_validator(mode="after")
    def _in_range(self) -> ArmConfig:
        if self.refiner == "sdedit" and any(getattr(self, name) is not None for name in CALIBRATION):
            raise ValueError("sdedit does not calibrate and takes none of " + ", ".join(CALIBRATION))
        self.calibration()
        self.settings(RefineSettings(), 0)
        return self

    def calibration(self) -> NoiseCalibration:
        """How this arm calibrates; `sdedit` is `iterations = 0`."""
        if self.refiner == "sdedit":
            return NoiseCalibration(iterations=0)
        given = {name: getattr(self, name) for name in CALIBRATION if getattr(self, name) is not None}
        return NoiseCalibration(**given)

    def settings(self, shared: RefineSettings, seed: int) -> RefineSettings:
        """`shared` with what this arm changes, for one seed."""
        chosen = {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}
        base = {name: getattr(shared, name) for name in SETTINGS}
        if "strength" in chosen or "start_timestep" in chosen:
            base["strength"] = base["start_timestep"] = None
        return RefineSettings(**{**base, **chosen, "seed": seed})


class Pieces(_Strict):
    """Cut a clip into blocks of `frames` frames and a grid of `rows` × `columns`; each piece is a unit.

    Pieces of one clip say something about that clip only; the analysis says so.
    """

    frames: int | None = Field(None, ge=1)
    rows: int = Field(1, ge=1)
    columns: int = Field(1, ge=1)


class ClipConfig(_Strict):
    """A video (or `demo`, the bundled one), relative to the experiment's file.

    `original`: the undegraded original, where there is one. `name`: of the unit; default: the file's.
    """

    path: str
    original: str | None = None
    name: Annotated[str | None, Field(pattern=f"^{NAME.pattern}$")] = None
    max_frames: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=16)
    pieces: Pieces | None = None


def _arm(value: Any) -> Any:
    return {"refiner": value} if isinstance(value, str) else value


def _clip(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _seeds(value: Any) -> Any:
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value


Arm = Annotated[ArmConfig, BeforeValidator(_arm)]
Clip = Annotated[ClipConfig, BeforeValidator(_clip)]


class ExperimentConfig(_Strict):
    """An offline experiment: every arm on every clip with every seed, on the same noise.

    Attributes:
        version: 1.
        experiment: its name.
        adapter: `{name: …, options}` of the host that every arm runs on.
        settings: what every arm is asked to do, as `RefineSettings` without the seed.
        arms: name → arm; at least two. `control` names the one the others are compared with.
        clips: at least one.
        seeds: whole numbers, or how many of them.
        metrics: what is measured, by default `MEASURED`; further those of `nc_refiner.evaluation` that judge colour,
            steadiness and looks (`EVALUATED`). With an original, `…_to_original` of mse, mse_low, ssim, psnr as well.
        weights: where the weights of learned metrics lie: `clip`, `lpips`, `dover` → path, relative to the file.
        primary: the metric that decides.
        guardrails: metric → how much worse an arm may be: `1.2x` the control's, or an absolute amount.
        alpha: level of every interval and test.
        planned_units: number of units for which sequential intervals are tightest; default: those of this file.
        keep_clips: outputs to keep for the report: those of the first seed, all, or none.
    """

    version: Literal[1]
    experiment: str = Field(pattern=f"^{NAME.pattern}$")
    adapter: dict[str, Any] = {"name": "embedded"}
    settings: dict[str, Any] = {}
    arms: dict[str, Arm] = Field(min_length=2)
    control: str
    clips: list[Clip] = Field(min_length=1)
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_seeds)] = Field([0], min_length=1)
    metrics: list[str] = list(MEASURED)
    weights: dict[Literal["clip", "lpips", "dover"], str] = {}
    primary: str = "mse"
    guardrails: dict[str, str | float] = {}
    alpha: float = Field(0.05, gt=0, lt=0.5)
    planned_units: int | None = Field(None, ge=2)
    keep_clips: Literal["first_seed", "all", "none"] = "first_seed"

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentConfig:
        for name in self.arms:
            if not NAME.fullmatch(name):
                raise ValueError(f"arm {name!r}: names are letters, digits, dots, dashes and underscores")
        _known("control", self.control, list(self.arms))
        for metric in self.metrics:
            _known("metric", metric, (*MEASURED, *EVALUATED))
        for metric, weights in learned(self.metrics).items():
            if weights not in self.weights:
                raise ValueError(f"metric {metric!r} needs weights; say where they lie: weights: {{{weights}: PATH}}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice; every seed must be another")
        for name, what in (("primary", self.primary), *(("guardrail", metric) for metric in self.guardrails)):
            _known(
                name, what, [*self.metrics, *(f"{metric}_to_original" for metric in self.metrics if metric in FIDELITY)]
            )
        if METRICS[self.primary.removesuffix("_to_original")].better == "neither":
            raise ValueError(f"primary is {self.primary!r}, of which neither more nor less is better; choose another")
        for metric, limit in self.guardrails.items():
            parse_limit(metric, limit)
        adapters = [self.adapter, *(arm.adapter for arm in self.arms.values() if arm.adapter is not None)]
        for adapter in adapters:
            _known("adapter's name", str(adapter.get("name")), available())
        for key in self.settings:
            _known("settings key", key, SETTINGS)
        self.shared()
        return self

    def shared(self) -> RefineSettings:
        """The settings all arms start from."""
        try:
            return RefineSettings(**self.settings)
        except TypeError as error:
            raise ValueError(f"settings: {error}") from None


def parse_limit(metric: str, limit: str | float) -> tuple[Literal["ratio", "absolute"], float]:
    """`"1.2x"` → `("ratio", 1.2)`; `0.01` → `("absolute", 0.01)`, by how much the arm may be worse than the control.

    Raises:
        ValueError: neither, not finite, or below 0.

    >>> parse_limit("seconds", "1.2x"), parse_limit("ssim", 0.01)
    (('ratio', 1.2), ('absolute', 0.01))
    """
    text = str(limit).strip()
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"guardrail {metric}: {limit!r} is neither a ratio such as 1.2x nor an amount such as 0.01")
    return ("ratio" if text.endswith("x") else "absolute"), value


def _known(what: str, found: str, allowed: Any) -> None:
    if found not in allowed:
        hint = did_you_mean(found, allowed, before="; ")
        raise ValueError(f"{what} is {found!r}; allowed: {', '.join(allowed)}{hint}")


def load_config(path: Path) -> ExperimentConfig:
    """Read and check an experiment's file.

    Raises:
        ValueError: no such file, not YAML, or a key or value that is not allowed; one line that names it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no experiment at {path}; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds {type(data).__name__}, not the keys of an experiment")
    try:
        return ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{path}: {_first(error)}") from None


MODELS: dict[str, type[BaseModel]] = {"arms": ArmConfig, "clips": ClipConfig, "pieces": Pieces}


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in words."""
    found = error.errors()[0]
    place = [str(part) for part in found["loc"]]
    where = ".".join(place)
    if found["type"] == "extra_forbidden":
        model: type[BaseModel] = next(
            (MODELS[part] for part in reversed(place[:-1]) if part in MODELS), ExperimentConfig
        )
        hint = did_you_mean(place[-1], model.model_fields) or f"allowed: {', '.join(model.model_fields)}"
        text = f"unknown key {where!r}; {hint}"
    elif found["type"] == "missing":
        text = f"{where!r} is missing"
    else:
        text = found["msg"].removeprefix("Value error, ")
        text = f"{where}: {text}" if where else text
        if found["type"] != "value_error":
            text += f", found {found['input']!r}"
    more = error.error_count() - 1
    return text + (f" (and {more} more)" if more else "")
