"""Wan video-to-video: diffusers has no such blocks yet, so one that starts from a video, and the calibration block."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanVideoToVideoPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.models import AutoencoderKLWan
from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
from diffusers.modular_pipelines.wan.denoise import WanDenoiseLoopWrapper, WanLoopBeforeDenoiser, WanLoopDenoiser
from diffusers.modular_pipelines.wan.modular_blocks_wan import WanBlocks
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from nc_refiner import CalibrationTrace, NoiseLevel, calibrate
from nc_refiner.adapters.diffusers.coefficients import Noising, noising_hooked
from nc_refiner.adapters.diffusers.estimates import estimate_x0

from .fields import CALIBRATION_INPUTS, TRACE_OUTPUT, configured

__all__ = ["WanCalibrationStep", "WanVideoStartStep", "wan_video_to_video"]


class WanVideoStartStep(ModularPipelineBlocks):
    """In place of `prepare_latents`: the encoded video, noised to where `strength` starts, as the classic
    `WanVideoToVideoPipeline` has it; its own methods do both.

    Further outputs for the calibration: `reference_latents` and `start_level`.
    """

    model_name = "wan"

    @property
    def description(self) -> str:
        return "Prepares the latents of a video-to-video generation: the video, encoded and noised."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [
            ComponentSpec("vae", AutoencoderKLWan),
            ComponentSpec("scheduler", UniPCMultistepScheduler),
            ComponentSpec(
                "video_processor",
                VideoProcessor,
                config=FrozenDict({"vae_scale_factor": 8}),
                default_creation_method="from_config",
            ),
        ]

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("video", required=True, description="The video to refine, as the classic pipeline takes it."),
            InputParam("strength", type_hint=float, default=0.8, description="Share of the schedule that is run."),
            InputParam("height", type_hint=int),
            InputParam("width", type_hint=int),
            InputParam("num_videos_per_prompt", type_hint=int, default=1),
            InputParam("generator"),
            InputParam("batch_size", required=True, type_hint=int),
            InputParam("timesteps", required=True, type_hint=Tensor),
            InputParam("num_inference_steps", required=True, type_hint=int),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [
            OutputParam("latents", type_hint=Tensor, description="The noised latents, float32."),
            OutputParam("timesteps", type_hint=Tensor, description="Those that are run."),
            OutputParam("num_inference_steps", type_hint=int, description="How many they are."),
            OutputParam("reference_latents", type_hint=Tensor, description="The encoded video."),
            OutputParam("start_level", type_hint=NoiseLevel, description="Signal and noise scale of `latents`."),
        ]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block: Any = self.get_block_state(state)
        if not 0 < block.strength <= 1:
            raise ValueError(f"strength is {block.strength}; it must lie in (0, 1]")
        classic: Any = WanVideoToVideoPipeline
        height, width = block.height or components.default_height, block.width or components.default_width
        device, batch = components._execution_device, block.batch_size * block.num_videos_per_prompt
        block.timesteps, block.num_inference_steps = classic.get_timesteps(
            components, block.num_inference_steps, block.timesteps, block.strength, device
        )
        video = components.video_processor.preprocess_video(block.video, height=height, width=width)
        noisings: list[Noising] = []

        def record(noising: Noising) -> Tensor:
            noisings.append(noising)
            return noising.x_t

        with noising_hooked(components.scheduler, record):
            block.latents = classic.prepare_latents(
                components,
                video.to(device, torch.float32),
                batch,
                components.num_channels_latents,
                height,
                width,
                torch.float32,
                device,
                block.generator,
                None,
                block.timesteps[:1].repeat(batch),
            )
        block.reference_latents, block.start_level = noisings[0].reference, noisings[0].level
        self.set_block_state(state, block)
        return components, state


class WanCalibrationStep(WanDenoiseLoopWrapper):
    """Calibrates `latents` against `reference_latents` at the first timestep; comes right before the denoising step.

    Its sub-blocks are those of the denoising loop less the scheduler's step, so guidance is the loop's own. Inputs and
    output as the block for SDXL has them. With 0 iterations it changes nothing.

    Raises:
        ValueError: a field is out of range.
    """

    block_classes = [  # noqa: RUF012 - as diffusers does
        WanLoopBeforeDenoiser,
        WanLoopDenoiser(guider_input_fields={"encoder_hidden_states": ("prompt_embeds", "negative_prompt_embeds")}),
    ]
    block_names = ["before_denoiser", "denoiser"]  # noqa: RUF012

    @property
    def description(self) -> str:
        return "Noise calibration (arXiv 2407.10285): keeps the content of the input video in SDEdit refinement."

    @property
    def loop_inputs(self) -> list[InputParam]:
        return [
            *super().loop_inputs,
            InputParam("reference_latents", required=True, type_hint=Tensor, description="The encoded video."),
            InputParam("start_level", required=True, description="Signal and noise scale of `latents`."),
            *CALIBRATION_INPUTS,
        ]

    @property
    def loop_intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("latents", type_hint=Tensor, description="The calibrated latents."), TRACE_OUTPUT]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block: Any = self.get_block_state(state)
        config, first, level = configured(block), block.timesteps[0], block.start_level
        block.calibration_trace = CalibrationTrace()

        def predict_x0(latents: Tensor) -> Tensor:
            block.latents = latents
            self.loop_step(components, block, i=0, t=first)
            return estimate_x0(components.scheduler, block.noise_pred, latents, level)

        reference = block.reference_latents.to(block.latents)
        if len(reference) < len(block.latents):
            reference = torch.cat([reference] * (len(block.latents) // len(reference)))
        done = calibrate(block.latents, reference, level, predict_x0, config)
        block.latents, block.calibration_trace = done.x_t, done.trace
        self.set_block_state(state, block)
        return components, state


def wan_video_to_video() -> WanBlocks:
    """Wan's blocks, from a video instead of from noise, calibrated: `init_pipeline(...)` them as any other.

    The call takes `video` and `strength` beside what text-to-video takes, and `calibration_iterations`,
    `calibration_cutoff`, `calibration_tolerance`.
    """
    blocks = WanBlocks()
    core = blocks.sub_blocks["denoise"]
    core.sub_blocks["prepare_latents"] = WanVideoStartStep()
    core.sub_blocks.insert("calibrate", WanCalibrationStep(), list(core.sub_blocks).index("denoise"))
    return blocks
