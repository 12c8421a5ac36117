"""THE description of a refiner. Cascade keys, command-line options, sweeps and experiments are made from it: an option
that is added here appears in all of them. Reading it does not need torch, so that `--help` is quick."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.fields import FieldInfo

from ..adapters.registry import available, parameters
from ..masks.names import READY
from ..naming import unknown_name
from ..refining.fidelity import TARGETS, Fidelity
from ..refining.settings import RefineSettings
from .document import ConfigError, Document, read_document
from .options import Options, StageOptions
from .section import read_section

if TYPE_CHECKING:
    from ..calibration import NoiseCalibration

__all__ = [
    "Backbone",
    "NCOptions",
    "RefinerDescription",
    "SDEditDescription",
    "SDEditOptions",
    "calibration_fields",
    "changes",
    "read_refiner",
    "refiner_options",
]

Share = Annotated[float, Field(gt=0, le=1)]
Scale = Annotated[float, Field(ge=0, le=1000)]
Side = Annotated[int, Field(ge=1, le=16384)]
Objective = Literal["paper", "colour_safe"]
RENAMED = {"calibration_guidance_scale": "guidance_scale"}
"""Names here → fields of `NoiseCalibration`, where one name would mean two things."""


class Backbone(BaseModel):
    """Which adapter refines; every other key is an option of that adapter (`model`, `device`, `weights`, …)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    adapter: str = "embedded"

    @property
    def options(self) -> dict[str, Any]:
        """The adapter's options."""
        return dict(self.__pydantic_extra__ or {})


KEEP_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in TARGETS}
            | {"lpips_weights": {"type": "string"}},
            "additionalProperties": False,
        },
    ]
}


def _kept(value: Any) -> Any:
    """A target as text, whichever way it was written."""
    return value if value is None else str(Fidelity.of(value))


def _mask(value: str) -> str:
    if value in READY or Path(value).is_file():
        return value
    raise ValueError(f"there is no file {value!r}, nor a ready mask of that name; ready ones: {', '.join(READY)}")


def _sides(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class SDEditDescription(Options):
    """How a clip is refined, calibration left aside; what each field means stands in its description."""

    backbone: Backbone = Backbone()
    strength: Share | None = Field(None, description="Share of the schedule that is run, above 0, at most 1.")
    start_timestep: Annotated[float, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="Initial timestep, instead of the strength."
    )
    num_inference_steps: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Steps of the whole schedule (default: the refiner's)."
    )
    guidance_scale: Scale | None = Field(None, description="Classifier-free guidance, where the refiner has it.")
    window: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Frames refined together (default: what the refiner takes)."
    )
    overlap: int = Field(4, ge=0, le=100_000, description="Frames that neighbouring windows share.")
    max_latents_gib: float = Field(
        0.5,
        ge=0,
        le=100_000,
        description="Clips with more latents than this, in GiB, stream, windows faded in pixels; 0: all.",
    )
    size: Annotated[list[Side], BeforeValidator(_sides), Field(min_length=2, max_length=2)] | None = Field(
        None, description="Height and width to refine at, in pixels (default: the input's)."
    )
    scale: Annotated[float, Field(gt=0, le=8)] | None = Field(
        None, description="The size as a factor of the input's, instead of the size."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> SDEditDescription:
        for one, other in (("strength", "start_timestep"), ("size", "scale")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{one} and {other} say the same thing; give only one of them")
        return self

    def check_keys(self, unknown: Callable[[tuple[str, ...], Iterable[str]], None]) -> None:
        name = self.backbone.adapter
        if name not in available():
            raise unknown_name("adapter", name, available())
        known = parameters(name)
        for key in self.backbone.options:
            if known is not None and key not in known:
                unknown(("backbone", key), ["adapter", *known])

    def settings(self) -> dict[str, Any]:
        """The fields of `RefineSettings` that are set here."""
        names = (field.name for field in fields(RefineSettings))
        found = {name: getattr(self, name) for name in names if name in type(self).model_fields}
        return {name: value for name, value in found.items() if value is not None}

    def calibration(self, default_cutoff: float = 1.0) -> NoiseCalibration:
        """How the noise is calibrated: not at all."""
        from ..calibration import NoiseCalibration

        return NoiseCalibration(iterations=0)


class RefinerDescription(SDEditDescription):
    """How a clip is refined and its noise calibrated; the calibration's fields as in `NoiseCalibration`."""

    iterations: int = Field(3, ge=0, le=100, description="Calibration iterations N; 0 is plain SDEdit.")
    cutoff: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Threshold frequency, 0 to 1 of Nyquist (default: the refiner's)."
    )
    calibration_guidance_scale: Scale | None = Field(
        None, description="Guidance while calibrating (default: the refiner's); 1 is conditional only, half the cost."
    )
    reuse_prediction: bool | None = Field(
        None,
        description="The last calibration prediction serves the first denoising step (default: where the host can).",
    )
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Stop calibrating once the content loss is below this."
    )
    mask: Annotated[str, AfterValidator(_mask)] | None = Field(
        None, description="Where content is strict: a picture or clip, white is strict; or text, faces, text+faces."
    )
    cutoff_outside: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Threshold frequency where the mask is black (default: 0, free)."
    )
    objective: Objective = Field(
        "paper", description="paper, or colour_safe: each iteration takes a smaller step, so that colours hold."
    )
    cutoff_time: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Changes over time that are kept, above 0, at most 1 of Nyquist (default: all)."
    )
    hold: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Pull to the input while denoising, 0 to 1, fading to the last step."
    )

    keep: Annotated[str, BeforeValidator(_kept), WithJsonSchema(KEEP_SCHEMA)] | None = Field(
        None, description="Target instead of settings: ssim=0.9; strength and cutoff are chosen, strength is the most."
    )
    tuning: str | None = Field(None, description="File of `nc-refiner tune`, which makes keep quicker.")

    @model_validator(mode="after")
    def _one_needs_the_other(self) -> RefinerDescription:
        if self.cutoff_outside is not None and self.mask is None:
            raise ValueError("cutoff_outside needs a mask to be outside of; give a mask too")
        if self.tuning is not None and self.keep is None:
            raise ValueError("tuning goes with keep: it says how far refinements of this host go")
        return self

    def calibration(self, default_cutoff: float = 1.0) -> NoiseCalibration:
        """How the noise is calibrated; `default_cutoff` is the adapter's, for where none is named."""
        from ..calibration import NoiseCalibration

        given = calibration_fields(self.model_dump())
        return NoiseCalibration(**{**given, "cutoff": default_cutoff if given["cutoff"] is None else given["cutoff"]})


def calibration_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Of `values` under the names used here, those of `NoiseCalibration`, under the names used there."""
    from ..calibration import NoiseCalibration

    ours = {field.name: field.name for field in fields(NoiseCalibration)}
    ours |= {there: here for here, there in RENAMED.items()}
    return {there: values[here] for there, here in ours.items() if here in values}


def changes(model: type[SDEditDescription], *left_out: str) -> dict[str, Any]:
    """The fields of `model` but `left_out`, as `pydantic.create_model` takes them, each None unless it is given: what
    an arm of a comparison may change."""
    return {name: _unset(info) for name, info in model.model_fields.items() if name not in left_out}


def _unset(info: FieldInfo) -> tuple[Any, Any]:
    kind: Any = info.annotation
    for bound in info.metadata:
        kind = Annotated[kind, bound]
    return kind | None, Field(None, description=info.description)


class SDEditOptions(SDEditDescription, StageOptions):
    """`refiner: sdedit`, the control of every comparison."""

    type: Literal["sdedit"] = "sdedit"


class NCOptions(RefinerDescription, StageOptions):
    """`refiner: nc`: Noise Calibration."""

    type: Literal["nc"] = "nc"


KINDS: dict[str, type[SDEditDescription]] = {"nc": NCOptions, "sdedit": SDEditOptions}


def refiner_options(document: Document, value: Any = "nc") -> SDEditDescription:
    """The checked options of a `refiner:` section, in its short or long form.

    Raises:
        ConfigError: what is wrong, by its line; or there is nothing to refine with.
    """
    found: SDEditDescription | None = read_section(document, "refiner", value, KINDS, KINDS.__getitem__)
    if found is None:
        raise ConfigError(f"{document.where(('refiner',))}: no refiner to build; write refiner: nc or refiner: sdedit")
    return found


def read_refiner(path: str | os.PathLike[str]) -> SDEditDescription:
    """The `refiner:` section of the file at `path`, the rest of which may be missing; errors as `refiner_options`."""
    document = read_document(path)
    return refiner_options(document, document.data.get("refiner"))
