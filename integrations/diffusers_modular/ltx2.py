"""LTX-2's second stage: given latents are noised again by `noise_scale` and refined; the calibration block for it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.modular_pipelines.ltx2.before_denoise import _normalize_latents, _pack_latents, _unpack_latents
from diffusers.modular_pipelines.ltx2.denoise import LTX2DenoiseLoopWrapper, LTX2LoopBeforeDenoiser, LTX2LoopDenoiser
from diffusers.modular_pipelines.ltx2.modular_blocks_ltx2 import LTX2Blocks
from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from torch import Tensor

from nc_refiner import CalibrationTrace, NoiseLevel, calibrate

from .fields import CALIBRATION_INPUTS, TRACE_OUTPUT, configured

__all__ = ["LTX2CalibrationStep", "LTX2ReferenceStep", "ltx2_second_stage"]


class LTX2ReferenceStep(ModularPipelineBlocks):
    """Keeps the latents that are given, normalised, before `prepare_latents` noises them: `reference_latents`."""

    model_name = "ltx2"

    @property
    def description(self) -> str:
        return "Keeps the latents that are given, for the calibration."

    @property
    def inputs(self) -> list[InputParam]:
        return [InputParam("latents", type_hint=Tensor, description="(B, C, F, H, W), as the first stage left them.")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("reference_latents", type_hint=Tensor, description="The same, normalised.")]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block: Any = self.get_block_state(state)
        block.reference_latents = None
        if block.latents is not None and block.latents.ndim == 5:
            block.reference_latents = _normalize_latents(
                block.latents, components.latents_mean, components.latents_std, components.vae_scaling_factor
            )
        self.set_block_state(state, block)
        return components, state


class LTX2CalibrationStep(LTX2DenoiseLoopWrapper):
    """Calibrates the video's `latents` against `reference_latents`; comes right before the denoising step.

    Its sub-blocks are those of the denoising loop less the step, so both guiders are the loop's own; the sound is left
    as it is. Where no latents are given, `noise_scale` is 0 or with 0 iterations it changes nothing.

    Raises:
        ValueError: a field is out of range.
    """

    block_classes = [LTX2LoopBeforeDenoiser, LTX2LoopDenoiser]  # noqa: RUF012 - as diffusers does
    block_names = ["before_denoiser", "denoiser"]  # noqa: RUF012

    @property
    def description(self) -> str:
        return "Noise calibration (arXiv 2407.10285): keeps the content of the first stage's video in the second."

    @property
    def loop_inputs(self) -> list[InputParam]:
        return [
            *super().loop_inputs,
            InputParam("reference_latents", type_hint=Tensor, description="The latents that were given."),
            InputParam("noise_scale", type_hint=float, description="Share of noise in `latents`."),
            *CALIBRATION_INPUTS,
        ]

    @property
    def loop_intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=Tensor, description="The calibrated latents, packed."), TRACE_OUTPUT]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block: Any = self.get_block_state(state)
        config, sigma = configured(block), float(block.noise_scale or 0.0)
        block.calibration_trace = CalibrationTrace()
        if block.reference_latents is not None and sigma > 0:
            self._calibrate(components, block, NoiseLevel(1 - sigma, sigma), config)
        self.set_block_state(state, block)
        return components, state

    def _calibrate(self, components: Any, block: Any, level: NoiseLevel, config: Any) -> None:
        patches = (components.transformer_spatial_patch_size, components.transformer_temporal_patch_size)
        frames, height, width = block.reference_latents.shape[2:]
        grid = (frames // patches[1], height // patches[0], width // patches[0])

        def predict_x0(latents: Tensor) -> Tensor:
            block.latents = _pack_latents(latents, *patches)
            self.loop_step(components, block, i=0, t=block.timesteps[0])
            # The loop's guiders combine estimates of the clean video, not velocities.
            found: Tensor = _unpack_latents(block.noise_pred_video, *grid, *patches)
            return found

        x_t = _unpack_latents(block.latents, *grid, *patches)
        reference = block.reference_latents.to(x_t)
        if len(reference) < len(x_t):
            reference = torch.cat([reference] * (len(x_t) // len(reference)))
        done = calibrate(x_t, reference, level, predict_x0, config)
        block.latents, block.calibration_trace = _pack_latents(done.x_t, *patches), done.trace


def ltx2_second_stage() -> LTX2Blocks:
    """LTX-2's blocks, calibrated where they are called with `latents`, `sigmas` and `noise_scale` (the first sigma).

    The call takes `calibration_iterations`, `calibration_cutoff`, `calibration_tolerance` beside what it takes anyhow.
    """
    blocks = LTX2Blocks()
    steps = blocks.sub_blocks["denoise"].sub_blocks
    steps.insert("reference", LTX2ReferenceStep(), list(steps).index("prepare_latents"))
    steps.insert("calibrate", LTX2CalibrationStep(), list(steps).index("denoise"))
    return blocks
