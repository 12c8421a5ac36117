"""A block for Modular Diffusers: noise calibration between preparing SDXL's image-to-image latents and denoising them.

from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from integrations.diffusers_modular import with_calibration

pipe = with_calibration(StableDiffusionXLAutoBlocks()).init_pipeline("stabilityai/stable-diffusion-xl-refiner-1.0")
pipe.load_components(torch_dtype=torch.bfloat16)
image = pipe(prompt="a camel", image=image, strength=0.4, calibration_iterations=3, output="images")[0]
"""

from .sdxl import StableDiffusionXLCalibrationStep, with_calibration

__all__ = ["StableDiffusionXLCalibrationStep", "with_calibration"]
