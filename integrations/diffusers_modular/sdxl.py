"""SDXL image-to-image: the calibration block, and how it is put into a set of blocks."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import (
    StableDiffusionXLDenoiseLoopWrapper,
    StableDiffusionXLLoopBeforeDenoiser,
    StableDiffusionXLLoopDenoiser,
)
from torch import Tensor

from nc_refiner import CalibrationTrace, NoiseCalibration, calibrate
from nc_refiner.adapters.diffusers.coefficients import start_level
from nc_refiner.adapters.diffusers.errors import NotSDEdit
from nc_refiner.adapters.diffusers.estimates import estimate_x0

from .fields import CALIBRATION_INPUTS, TRACE_OUTPUT, configured

__all__ = ["StableDiffusionXLCalibrationStep", "with_calibration"]


class StableDiffusionXLCalibrationStep(StableDiffusionXLDenoiseLoopWrapper):
    """Calibrates `latents` against `image_latents` at the first timestep; comes right before the denoising step.

    Its sub-blocks are those of the denoising loop less the scheduler's step, so guidance and IP-Adapter are the loop's
    own. Further inputs: `calibration_iterations` (default 3), `calibration_cutoff` (default 1.0) and
    `calibration_tolerance`, as in `NoiseCalibration`; further output: `calibration_trace`. Without `image_latents`
    (text-to-image) or with 0 iterations it changes nothing.

    Raises:
        NotSDEdit: with a mask, a ControlNet or `denoising_start`.
        ValueError: a field is out of range.
    """

    block_classes = [StableDiffusionXLLoopBeforeDenoiser, StableDiffusionXLLoopDenoiser]  # noqa: RUF012 - as diffusers does
    block_names = ["before_denoiser", "denoiser"]  # noqa: RUF012

    @property
    def description(self) -> str:
        return "Noise calibration (arXiv 2407.10285): keeps the content of the input image in SDEdit refinement."

    @property
    def loop_inputs(self) -> list[InputParam]:
        return [
            *super().loop_inputs,
            InputParam("image_latents", type_hint=Tensor, description="The encoded input image."),
            InputParam("mask", type_hint=Tensor, description="Inpainting mask; refused."),
            InputParam("controlnet_cond", description="What a ControlNet sees; refused."),
            InputParam("denoising_start", description="Start among already noised latents; refused."),
            *CALIBRATION_INPUTS,
        ]

    @property
    def loop_intermediate_outputs(self) -> list[OutputParam]:
        return [
            OutputParam("latents", type_hint=Tensor, description="The calibrated latents."),
            TRACE_OUTPUT,
        ]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block: Any = self.get_block_state(state)
        config = configured(block)
        block.calibration_trace = CalibrationTrace()
        if block.image_latents is not None and config.iterations:
            self._calibrate(components, block, config)
        self.set_block_state(state, block)
        return components, state

    def _calibrate(self, components: Any, block: Any, config: NoiseCalibration) -> None:
        for name in ("mask", "controlnet_cond", "denoising_start"):
            if getattr(block, name, None) is not None:
                raise NotSDEdit(
                    f"this block calibrates plain image-to-image, and {name} is given; use calibration_iterations=0, "
                    "or nc_refiner.wrap on the pipeline of the classic kind"
                )
        block.disable_guidance = components.unet.config.time_cond_proj_dim is not None
        if block.disable_guidance:
            components.guider.disable()
        else:
            components.guider.enable()
        first = block.timesteps[0]
        level = start_level(components.scheduler, first)
        if level is None:
            raise NotSDEdit(f"{type(components.scheduler).__name__} cannot noise; choose a scheduler with add_noise")
        x_t = block.latents
        reference = block.image_latents.to(x_t.device, x_t.dtype)
        if len(reference) < len(x_t):
            reference = torch.cat([reference] * (len(x_t) // len(reference)))

        def predict_x0(latents: Tensor) -> Tensor:
            block.latents = latents
            self.loop_step(components, block, i=0, t=first)
            return estimate_x0(components.scheduler, block.noise_pred, latents, level)

        calibrated = calibrate(x_t, reference, level, predict_x0, config)
        block.latents, block.calibration_trace = calibrated.x_t, calibrated.trace


def _insert(blocks: Any) -> bool:
    for place, (name, block) in enumerate(blocks.sub_blocks.items()):
        if isinstance(block, SequentialPipelineBlocks):
            if _insert(block):
                return True
        elif name == "denoise":
            blocks.sub_blocks.insert("calibrate", StableDiffusionXLCalibrationStep(), place)
            return True
    return False


def with_calibration(blocks: Any) -> Any:
    """Put the calibration step before the `denoise` step of a set of SDXL blocks, in place; returns `blocks`.

    Raises:
        ValueError: there is no block named `denoise`.
    """
    if not _insert(blocks):
        raise ValueError(f"no block named 'denoise' among {list(blocks.sub_blocks)}; insert the step by hand")
    return blocks
