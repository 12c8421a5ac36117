"""The YAML file of an offline experiment (`ab run`), checked key by key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model, model_validator

from ...adapters.registry import available
from ...calibration import NoiseCalibration
from ...config.document import read_document
from ...config.problems import validated
from ...config.refiner import RefinerDescription, SDEditDescription, calibration_fields, changes
from ...evaluation.catalogue import FIDELITY, METRICS, TO_ORIGINAL, metric_named
from ...refining.settings import RefineSettings
from ..statistics.non_inferiority import parse_limit
from .restorer_choice import Restoring
from .sections import NAME, Strict, known

__all__ = [
    "ArmBase",
    "ArmConfig",
    "ClipConfig",
    "ExperimentConfig",
    "Pieces",
    "load_config",
]

MEASURED = (*FIDELITY, "spatial_frequency", "content_loss", "seconds", "evaluations")
"""Measured where the file names nothing: they need neither further packages nor weights."""
MEASURABLE = tuple(dict.fromkeys((*MEASURED, *METRICS)))
REFINING = ("content_loss", "evaluations")
"""Of a refiner's run; a restorer has neither."""
SETTINGS = ("prompt", "negative_prompt", *changes(SDEditDescription, "backbone"))
"""What every arm may be asked to do: the description of a refiner, and its prompts."""
CALIBRATION = tuple(name for name in RefinerDescription.model_fields if name not in SDEditDescription.model_fields)


class ArmBase(Strict):
    """One refiner: `refiner: nc | sdedit` (or just that word), and whatever differs from the experiment's settings: any
    field of the description of a refiner. Or a rival without a refiner: `refiner: restorer`, `restorer: NAME` (or
    `{name, options}`), which takes a prompt, and nothing of a refiner but `size` and `scale`."""

    refiner: Literal["nc", "sdedit", "restorer"]
    restorer: Restoring | None = None
    adapter: dict[str, Any] | None = None
    prompt: str | None = None
    negative_prompt: str | None = None

    @model_validator(mode="after")
    def _in_range(self) -> ArmBase:
        if self.refiner == "sdedit" and any(getattr(self, name) is not None for name in CALIBRATION):
            raise ValueError("sdedit does not calibrate and takes none of " + ", ".join(CALIBRATION))
        if (self.refiner == "restorer") != (self.restorer is not None):
            raise ValueError("refiner: restorer and restorer: NAME go together; give both or none")
        if self.refiner == "restorer":
            allowed = {"refiner", "restorer", "prompt", "size", "scale"}
            given = sorted(self.model_dump(exclude_none=True).keys() - allowed)
            if given:
                raise ValueError(f"a restorer does not refine and takes no {', '.join(given)}")
        self.calibration()
        self.settings(RefineSettings(), 0)
        return self

    def calibration(self, default_cutoff: float = 1.0) -> NoiseCalibration:
        """How this arm calibrates; `sdedit` is `iterations = 0`, `default_cutoff` the adapter's where none is named."""
        if self.refiner != "nc":
            return NoiseCalibration(iterations=0)
        given = calibration_fields(self.model_dump(include=set(CALIBRATION), exclude_none=True))
        return NoiseCalibration(**{"cutoff": default_cutoff, **given})

    def settings(self, shared: RefineSettings, seed: int) -> RefineSettings:
        """`shared` with what this arm changes, for one seed."""
        chosen = self.model_dump(include={field.name for field in fields(RefineSettings)}, exclude_none=True)
        base = {field.name: getattr(shared, field.name) for field in fields(RefineSettings)}
        for pair in (("strength", "start_timestep"), ("size", "scale")):
            if any(name in chosen for name in pair):
                base |= dict.fromkeys(pair)
        return RefineSettings(**{**base, **chosen, "seed": seed})


ArmConfig: Any = create_model(
    "ArmConfig",
    __base__=ArmBase,
    __doc__=ArmBase.__doc__,
    __module__=__name__,
    **changes(RefinerDescription, "backbone"),
)


class Pieces(Strict):
    """Cut a clip into blocks of `frames` frames and a grid of `rows` × `columns`; each piece is a unit.

    Pieces of one clip say something about that clip only; the analysis says so.
    """

    frames: int | None = Field(None, ge=1)
    rows: int = Field(1, ge=1)
    columns: int = Field(1, ge=1)


class ClipConfig(Strict):
    """A video, a folder of them, or `demo`, the bundled one; relative to the experiment's file.

    `original`: the undegraded original, where there is one. `name`: of the unit; default: the file's. `tag`: a word for
    what the clip shows, such as `people`; results are also given by tag, or else by the clips' folders.
    """

    path: str
    original: str | None = None
    name: Annotated[str | None, Field(pattern=f"^{NAME.pattern}$")] = None
    max_frames: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=16)
    pieces: Pieces | None = None
    tag: Annotated[str | None, Field(pattern=f"^{NAME.pattern}$")] = None


def _arm(value: Any) -> Any:
    return {"refiner": value} if isinstance(value, str) else value


def _clip(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _seeds(value: Any) -> Any:
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value


Arm = Annotated[ArmConfig, BeforeValidator(_arm)]
Clip = Annotated[ClipConfig, BeforeValidator(_clip)]


class ExperimentConfig(Strict):
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
            steadiness and looks. With an original, `…_to_original` of mse, mse_low, ssim, psnr as well.
        weights: where the weights of learned metrics lie: `clip`, `lpips`, `dover` → path, relative to the file.
        primary: the metric that decides.
        guardrails: metric → how much worse an arm may be: `1.2x` the control's, or an absolute amount.
        alpha: level of every interval and test.
        planned_units: number of units for which sequential intervals are tightest; default: those of this file.
        keep_clips: outputs to keep for the report: those of the first seed, all, or none.
    """

    version: Literal[1]
    experiment: str = Field(pattern=f"^{NAME.pattern}$")
    adapter: dict[str, Any] = Field({"name": "embedded"})
    settings: dict[str, Any] = Field({})
    arms: dict[str, Arm] = Field(min_length=2)
    control: str
    clips: list[Clip] = Field(min_length=1)
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], BeforeValidator(_seeds)] = Field([0], min_length=1)
    metrics: list[str] = Field(list(MEASURED))
    weights: dict[Literal["clip", "lpips", "dover"], str] = Field({})
    primary: str = "mse"
    guardrails: dict[str, str | float] = Field({})
    alpha: float = Field(0.05, gt=0, lt=0.5)
    planned_units: int | None = Field(None, ge=2)
    keep_clips: Literal["first_seed", "all", "none"] = "first_seed"

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentConfig:
        for name in self.arms:
            if not NAME.fullmatch(name):
                raise ValueError(f"arm {name!r}: names are letters, digits, dots, dashes and underscores")
        known("control", self.control, list(self.arms))
        for metric in self.metrics:
            known("metric", metric, MEASURABLE)
            weights = metric_named(metric).weights
            if weights and weights not in self.weights:
                raise ValueError(f"metric {metric!r} needs weights; say where they lie: weights: {{{weights}: PATH}}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice; every seed must be another")
        for name, what in (("primary", self.primary), *(("guardrail", metric) for metric in self.guardrails)):
            known(name, what, [*self.metrics, *(m + TO_ORIGINAL for m in self.metrics if m in FIDELITY)])
        if not metric_named(self.primary).sign:
            raise ValueError(f"primary is {self.primary!r}, of which neither more nor less is better; choose another")
        for metric, limit in self.guardrails.items():
            parse_limit(metric, limit)
        restoring = [name for name, arm in self.arms.items() if arm.refiner == "restorer"]
        for metric in (self.primary, *self.guardrails) if restoring else ():
            if metric in REFINING:
                raise ValueError(f"{metric} cannot decide: arm {restoring[0]} restores, and has none")
        adapters = [self.adapter, *(arm.adapter for arm in self.arms.values() if arm.adapter is not None)]
        for adapter in adapters:
            known("adapter's name", str(adapter.get("name")), available())
        for key in self.settings:
            known("settings key", key, SETTINGS)
        self.shared()
        return self

    def shared(self) -> RefineSettings:
        """The settings all arms start from."""
        try:
            return RefineSettings(**self.settings)
        except TypeError as error:
            raise ValueError(f"settings: {error}") from None


def load_config(path: Path) -> ExperimentConfig:
    """Read and check an experiment's file.

    Raises:
        ConfigError: no such file, not YAML, or a key or value that is not allowed; one line that names it.
    """
    document = read_document(path)
    return validated(ExperimentConfig, document.data, document)
