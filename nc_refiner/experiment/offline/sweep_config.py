"""The YAML file of a sweep, checked key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model, field_validator

from ...baselines import BASELINES
from ...config.document import read_document
from ...config.problems import validated
from ...config.refiner import RefinerDescription, changes
from ...evaluation.catalogue import DEFAULT, chosen
from ...naming import did_you_mean
from .restorer_choice import RestorerChoice, Restoring
from .sections import Strict

__all__ = ["PlanBase", "RefinerChoice", "SweepConfig", "SweepPlan", "load_config"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0)]


TAKEN = (*BASELINES, "nc", "sdedit", "trace")


class PlanBase(Strict):
    """Every setting that each clip is refined with.

    Beside these, any field of the description of a refiner, the same for all arms.

    Attributes:
        iterations: N of each arm; 0 is plain SDEdit, to which all others are compared.
        cutoffs: ν of each arm, in [0, 1]; 0 is plain SDEdit again, and computed once.
        strengths: in (0, 1].
        seeds: each at least 0; a clip's value is the mean over them.
        prompt: where the refiner takes one.
        baselines: of `nc_refiner.baselines.BASELINES`.
        restorers: names of `nc_refiner.baselines.restorers()`, or `{name, options, label}`; they have no strength.
        ilvr_cutoff: ν of ILVR.
        match_iterations: `matched_sdedit` is matched to this N, at each cutoff above 0; `renoise` repeats as often.
        trace_iterations: follow the content loss over so many iterations at each cutoff, without denoising.
        metrics: names of the evaluation catalogue.
    """

    iterations: tuple[Count, ...] = Field(default=(0, 1, 2, 3), min_length=1)
    cutoffs: tuple[Fraction, ...] = Field(default=(1.0,), min_length=1)
    strengths: tuple[Strength, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(0,), min_length=1)
    prompt: str | None = None
    baselines: tuple[str, ...] = ()
    restorers: tuple[Restoring, ...] = ()
    ilvr_cutoff: Fraction = 0.5
    match_iterations: Annotated[int, Field(ge=1)] = 3
    trace_iterations: Count = 0
    metrics: tuple[str, ...] = DEFAULT

    @field_validator("baselines")
    @classmethod
    def _known_baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                near = did_you_mean(name, BASELINES, before=" (", after=")")
                raise ValueError(f"unknown baseline {name!r}{near}; there are: {', '.join(BASELINES)}")
        return names

    @field_validator("restorers")
    @classmethod
    def _one_name_each(cls, chosen: tuple[RestorerChoice, ...]) -> tuple[RestorerChoice, ...]:
        names = [choice.method for choice in chosen]
        for name in names:
            if names.count(name) > 1 or name in TAKEN:
                raise ValueError(f"the name {name!r} is taken; give a label of its own")
        return chosen

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return chosen(names)

    @property
    def described(self) -> dict[str, Any]:
        """The fields of the description that are set."""
        return self.model_dump(include=set(DESCRIBED), exclude_none=True, mode="json")

    @property
    def alone(self) -> bool:
        """Whether arms run one by one, as they have no latents in common under what is set."""
        return not self.described.keys() <= {"num_inference_steps", "guidance_scale", "reuse_prediction"}


# What a sweep varies has a list of its own: strengths stand for start timesteps too. A target would choose them itself.
VARIED = ("iterations", "cutoff", "strength", "start_timestep", "keep", "tuning")
DESCRIBED = changes(RefinerDescription, "backbone", *VARIED)
SweepPlan: Any = create_model(
    "SweepPlan", __base__=PlanBase, __doc__=PlanBase.__doc__, __module__=__name__, **DESCRIBED
)


class RefinerChoice(Strict):
    """A registered refiner and its options."""

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
        keep_clips: outputs to keep for the report's players: those of the first seed, all, or none.
    """

    version: Literal[1] = 1
    refiners: tuple[RefinerChoice, ...] = Field(default=(RefinerChoice(name="embedded"),), min_length=1)
    clips: str
    originals: str | None = None
    frames: Annotated[int, Field(ge=1)] = 8
    height: Annotated[int, Field(ge=16)] | None = None
    output: str | None = None
    keep_clips: Literal["first_seed", "all", "none"] = "first_seed"

    @field_validator("refiners", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        found = given if isinstance(given, (list, tuple)) else [given]
        return [{"name": item} if isinstance(item, str) else item for item in found]


def load_config(path: Path) -> SweepConfig:
    """Read and check a sweep's file.

    Raises:
        ConfigError: no such file, not YAML, or a key or value that is not allowed; one line that names it.
    """
    document = read_document(path)
    found: SweepConfig = validated(SweepConfig, document.data, document)
    return found
