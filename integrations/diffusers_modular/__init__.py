"""Blocks for Modular Diffusers: noise calibration between preparing latents and denoising them. SDXL image-to-image:

from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from nc_refiner.integrations.diffusers_modular import with_calibration

pipe = with_calibration(StableDiffusionXLAutoBlocks()).init_pipeline("stabilityai/stable-diffusion-xl-refiner-1.0")
pipe.load_components(torch_dtype=torch.bfloat16)
image = pipe(prompt="a camel", image=image, strength=0.4, calibration_iterations=3, output="images")[0]

Wan, from a video (diffusers has blocks from noise and from an image alone):

pipe = wan_video_to_video().init_pipeline("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
pipe.load_components(torch_dtype=torch.bfloat16)
video = pipe(prompt="a camel", video=frames, strength=0.6, calibration_iterations=3, output="videos")

LTX-2, its second stage: `ltx2_second_stage()`, called with `latents`, `sigmas` and `noise_scale`.
"""

from .ltx2 import LTX2CalibrationStep, LTX2ReferenceStep, ltx2_second_stage
from .sdxl import StableDiffusionXLCalibrationStep, with_calibration
from .wan import WanCalibrationStep, WanVideoStartStep, wan_video_to_video

__all__ = [
    "LTX2CalibrationStep",
    "LTX2ReferenceStep",
    "StableDiffusionXLCalibrationStep",
    "WanCalibrationStep",
    "WanVideoStartStep",
    "ltx2_second_stage",
    "wan_video_to_video",
    "with_calibration",
]
