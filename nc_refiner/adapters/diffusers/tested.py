"""The pipelines the test suite runs; the documentation's table reads this, and a test holds it to the zoo."""

from __future__ import annotations

__all__ = ["TESTED"]

TESTED = {
    "AnimateDiffVideoToVideoControlNetPipeline": "",
    "AnimateDiffVideoToVideoPipeline": "`enforce_inference_steps` by replay; FreeInit refused",
    "ChromaImg2ImgPipeline": "",
    "CogVideoXVideoToVideoPipeline": "DDIM and DPM, dynamic guidance",
    "FluxControlImg2ImgPipeline": "",
    "FluxControlInpaintPipeline": "by replay: blends its latents between steps",
    "FluxControlNetImg2ImgPipeline": "",
    "FluxControlNetInpaintPipeline": "",
    "FluxImg2ImgPipeline": "",
    "FluxInpaintPipeline": "",
    "IFImg2ImgPipeline": "pixels, learned variance, thresholding",
    "KandinskyV22ControlnetImg2ImgPipeline": "",
    "KandinskyV22Img2ImgPipeline": "learned variance",
    "LTX2Pipeline": "second stage, `latents=` with `noise_scale`; by replay",
    "LTXConditionPipeline": "`latents=` with `denoise_strength`; conditions refused",
    "LatentConsistencyModelImg2ImgPipeline": "by replay",
    "QwenImageImg2ImgPipeline": "",
    "QwenImageInpaintPipeline": "",
    "StableDiffusion3Img2ImgPipeline": "",
    "StableDiffusion3InpaintPipeline": "",
    "StableDiffusion3PAGImg2ImgPipeline": "",
    "StableDiffusionControlNetImg2ImgPipeline": "",
    "StableDiffusionControlNetInpaintPipeline": "",
    "StableDiffusionControlNetPAGInpaintPipeline": "strength below 1",
    "StableDiffusionImg2ImgPipeline": "",
    "StableDiffusionInpaintPipeline": "strength below 1",
    "StableDiffusionPAGImg2ImgPipeline": "",
    "StableDiffusionPAGInpaintPipeline": "strength below 1",
    "StableDiffusionXLControlNetImg2ImgPipeline": "",
    "StableDiffusionXLControlNetInpaintPipeline": "strength below 1",
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": "",
    "StableDiffusionXLImg2ImgPipeline": "base and refiner, every compatible scheduler; `denoising_start` refused",
    "StableDiffusionXLInpaintPipeline": "strength below 1; `denoising_start` refused",
    "StableDiffusionXLPAGImg2ImgPipeline": "",
    "StableDiffusionXLPAGInpaintPipeline": "strength below 1",
    "VideoToVideoSDPipeline": "zeroscope, Show-1's last stage; batch 1 only (the pipeline's own limit)",
    "WanVideoToVideoPipeline": "UniPC and flow matching",
    "ZImageImg2ImgPipeline": "",
    "ZImageInpaintPipeline": "",
}
"""Class name → what is worth knowing."""
