"""The refiner stages: `nc`, calibrated, and `sdedit`, the same without; over every registered adapter."""

from __future__ import annotations

from ...config.refiner import NCOptions, SDEditOptions
from ...refiner import CalibratedRefiner
from .base import Stage, StageRequest, StageResult
from .registry import register_stage

__all__ = ["CalibratedStage", "SDEditStage"]


class _RefineStage(Stage):
    _refiner: CalibratedRefiner | None = None

    def load(self) -> None:
        """Build the adapter; errors as `CalibratedRefiner.from_description`."""
        self._refiner = CalibratedRefiner.from_description(self.options)

    def close(self) -> None:
        self._refiner = None

    @property
    def refiner(self) -> CalibratedRefiner:
        """The loaded refiner."""
        if self._refiner is None:
            raise RuntimeError("the stage is not loaded; call load() first")
        return self._refiner

    def steps(self, frames: int | None) -> int:
        return self.refiner.plan().steps_for(frames or 1)

    def run(self, request: StageRequest) -> StageResult:
        """Refine `request.clip`."""
        return self._run(request, self.refiner)

    def run_uncalibrated(self, request: StageRequest) -> StageResult:
        """The same without calibration."""
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
