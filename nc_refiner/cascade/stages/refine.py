"""The refiner stages: `nc`, calibrated, and `sdedit`, the same without; over every registered adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...adapters.registry import available, parameters
from ...calibration import NoiseCalibration
from ...refinement import RefineSettings
from ...refiner import CalibratedRefiner
from .base import Stage, StageOptions, StageRequest, StageResult
from .registry import register_stage, unknown_name

__all__ = ["Backbone", "CalibratedStage", "NCOptions", "RefineOptions", "SDEditOptions", "SDEditStage"]

Share = Annotated[float, Field(gt=0, le=1)]
Scale = Annotated[float, Field(ge=0, le=1000)]


class Backbone(BaseModel):
    """Which adapter refines; every other key is an option of that adapter (`model`, `device`, `weights`, …)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    adapter: str = "embedded"

    @property
    def options(self) -> dict[str, Any]:
        """The adapter's options."""
        return dict(self.__pydantic_extra__ or {})


class RefineOptions(StageOptions):
    """How a clip is refined.

    Attributes:
        backbone: the adapter and its options.
        strength: share of the schedule that is run, in (0, 1]; None is the adapter's default.
        start_timestep: the initial timestep instead of `strength`.
        num_inference_steps: steps of the whole schedule.
        guidance_scale: None is the host's own.
        window, overlap: frames refined together, and how many neighbouring windows share.
    """

    backbone: Backbone = Backbone()
    strength: Share | None = None
    start_timestep: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=10_000)] | None = None
    guidance_scale: Scale | None = None
    window: Annotated[int, Field(ge=1, le=100_000)] | None = None
    overlap: int = Field(4, ge=0, le=100_000)

    @model_validator(mode="after")
    def _one_start(self) -> RefineOptions:
        if self.strength is not None and self.start_timestep is not None:
            raise ValueError("strength and start_timestep say the same thing; give only one of them")
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
        names = ("strength", "start_timestep", "num_inference_steps", "guidance_scale", "window", "overlap")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def calibration(self) -> NoiseCalibration:
        """How the noise is calibrated: not at all."""
        return NoiseCalibration(iterations=0)


class SDEditOptions(RefineOptions):
    """Plain SDEdit: the control of every comparison."""

    type: Literal["sdedit"] = "sdedit"


class NCOptions(RefineOptions):
    """Noise Calibration: fields as `NoiseCalibration`, whose `guidance_scale` is `calibration_guidance_scale` here."""

    type: Literal["nc"] = "nc"
    iterations: int = Field(3, ge=0, le=100)
    cutoff: Annotated[float, Field(ge=0, le=1)] | None = None
    calibration_guidance_scale: Scale | None = None
    reuse_prediction: bool = False
    tolerance: Annotated[float, Field(gt=0)] | None = None

    def calibration(self) -> NoiseCalibration:
        """How the noise is calibrated."""
        return NoiseCalibration(
            self.iterations, self.cutoff, self.calibration_guidance_scale, self.reuse_prediction, self.tolerance
        )


class _RefineStage(Stage):
    _refiner: CalibratedRefiner | None = None

    def load(self) -> None:
        """Build the adapter; errors as `build_refiner`."""
        from ..refiners import build_refiner

        self._refiner = build_refiner(self.options)

    def close(self) -> None:
        self._refiner = None

    @property
    def refiner(self) -> CalibratedRefiner:
        """The loaded refiner."""
        if self._refiner is None:
            raise RuntimeError("the stage is not loaded; call load() first")
        return self._refiner

    def steps(self, frames: int | None) -> int:
        return self.refiner.refinement(RefineSettings(**self.refiner.defaults)).steps_for(frames or 1)

    def run(self, request: StageRequest) -> StageResult:
        """Refine `request.clip`."""
        return self._run(request, self.refiner)

    def run_uncalibrated(self, request: StageRequest) -> StageResult:
        """The same by plain SDEdit: what `on_refiner_failure: sdedit` falls back to."""
        return self._run(request, self.refiner.with_calibration(iterations=0))

    def _run(self, request: StageRequest, refiner: CalibratedRefiner) -> StageResult:
        if request.clip is None:
            raise ValueError("a refiner needs a clip; the cascade's base made none")
        result = refiner(
            request.clip,
            seed=request.seed,
            on_step=request.on_step,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
        )
        return StageResult(result.clip, result.receipt)


@register_stage("refiner", "nc")
class CalibratedStage(_RefineStage):
    """`refiner: nc`: SDEdit whose initial noise is calibrated first."""

    Options = NCOptions


@register_stage("refiner", "sdedit")
class SDEditStage(_RefineStage):
    """`refiner: sdedit`: the same adapter without calibration."""

    Options = SDEditOptions
