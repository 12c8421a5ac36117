"""The pipelines the test suite runs; the documentation's table reads this, and a test holds it to the zoo."""

from __future__ import annotations

__all__ = ["TESTED"]

TESTED = {
    "AnimateDiffVideoToVideoControlNetPipeline": "",
    "AnimateDiffVideoToVideoPipeline": "`enforce_inference_steps` by replay; FreeInit refused",
    "ChromaImg2ImgPipeline": "",
    "CogVideoXVideoToVideoPipeline": "DDIM and DPM, dynamic guidance",
    "FluxControlImg2ImgPipeline": "",
    "FluxControlNetImg2ImgPipeline": "",
    "FluxImg2ImgPipeline": "",
    "FluxInpaintPipeline": "",
    "KandinskyV22ControlnetImg2ImgPipeline": "",
    "KandinskyV22Img2ImgPipeline": "learned variance",
    "LTXConditionPipeline": "`latents=` with `denoise_strength`; conditions refused",
    "LatentConsistencyModelImg2ImgPipeline": "by replay",
    "QwenImageImg2ImgPipeline": "",
    "QwenImageInpaintPipeline": "",
    "StableDiffusion3Img2ImgPipeline": "",
    "StableDiffusion3InpaintPipeline": "",
    "StableDiffusionControlNetImg2ImgPipeline": "",
    "StableDiffusionControlNetInpaintPipeline": "",
    "StableDiffusionImg2ImgPipeline": "",
    "StableDiffusionInpaintPipeline": "strength below 1",
    "StableDiffusionPAGImg2ImgPipeline": "",
    "StableDiffusionXLControlNetImg2ImgPipeline": "",
    "StableDiffusionXLControlNetInpaintPipeline": "strength below 1",
    "StableDiffusionXLImg2ImgPipeline": "base and refiner, every compatible scheduler; `denoising_start` refused",
    "StableDiffusionXLInpaintPipeline": "strength below 1; `denoising_start` refused",
    "StableDiffusionXLPAGImg2ImgPipeline": "",
    "VideoToVideoSDPipeline": "zeroscope, Show-1's last stage; batch 1 only (the pipeline's own limit)",
    "WanVideoToVideoPipeline": "UniPC and flow matching",
    "ZImageImg2ImgPipeline": "",
}
"""Class name → what is worth knowing."""
