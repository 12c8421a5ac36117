"""What every calibration block takes and gives, and the `NoiseCalibration` it means."""

from __future__ import annotations

from typing import Any

from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam

from nc_refiner import CalibrationTrace, NoiseCalibration

__all__ = ["CALIBRATION_INPUTS", "TRACE_OUTPUT", "configured"]

CALIBRATION_INPUTS = (
    InputParam("calibration_iterations", type_hint=int, default=3, description="N; 0 is plain SDEdit."),
    InputParam("calibration_cutoff", type_hint=float, default=1.0, description="Threshold frequency in [0, 1]."),
    InputParam("calibration_tolerance", type_hint=float, description="Stop early below this content loss."),
)
TRACE_OUTPUT = OutputParam("calibration_trace", type_hint=CalibrationTrace, description="Content loss per iteration.")


def configured(block: Any) -> NoiseCalibration:
    """The calibration that a block's state asks for; ValueError for a field out of range."""
    return NoiseCalibration(
        iterations=block.calibration_iterations,
        cutoff=block.calibration_cutoff,
        tolerance=block.calibration_tolerance,
    )
