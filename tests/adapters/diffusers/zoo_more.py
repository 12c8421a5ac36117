"""Further image pipelines: inpainting, perturbed attention, pixels. Their tests are marked slow."""

from __future__ import annotations

from typing import Any

from tiny_parts import seeded, t5_text, word_tokenizer
from zoo import (
    Entry,
    controlnet,
    flux_controlnet,
    flux_parts,
    image_call,
    made,
    mask,
    other_picture,
    sd3_parts,
    sd_parts,
    sdxl_controlnet,
    sdxl_parts,
    z_image_call,
    z_image_parts,
)


def if_parts() -> dict[str, Any]:
    """DeepFloyd IF: pixels for latents, learned variance, dynamic thresholding."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=8,
    )
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.0,
        variance_type="learned_range",
    )
    return {
        "text_encoder": t5_text(),
        "tokenizer": word_tokenizer(77),
        "unet": seeded(unet),
        "scheduler": scheduler,
        "watermarker": None,
        "safety_checker": None,
        "feature_extractor": None,
    }


def flux_fill_network() -> Any:
    """Takes the latents, the masked picture's and the mask, all packed."""
    from diffusers import FluxTransformer2DModel

    return seeded(
        FluxTransformer2DModel(
            patch_size=1,
            in_channels=48,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        )
    )


SMALL = {"height": 32, "width": 32}
FLUX_CALL: dict[str, Any] = {"negative_prompt": ..., "max_sequence_length": 8, "control_image": other_picture, **SMALL}

MORE: dict[str, Entry] = {
    "FluxControlInpaintPipeline": Entry(
        made("FluxControlInpaintPipeline", lambda: flux_parts(controlled=True)),
        image_call(mask_image=mask, **FLUX_CALL),
    ),
    "FluxControlNetInpaintPipeline": Entry(
        made("FluxControlNetInpaintPipeline", lambda: flux_parts(controlnet=flux_controlnet())),
        image_call(mask_image=mask, **FLUX_CALL),
    ),
    "FluxFillPipeline": Entry(
        made("FluxFillPipeline", lambda: flux_parts(transformer=flux_fill_network())),
        image_call(mask_image=mask, max_sequence_length=8, negative_prompt=..., **SMALL),
    ),
    "IFImg2ImgPipeline": Entry(made("IFImg2ImgPipeline", if_parts), image_call(output_type="pt")),
    "StableDiffusion3PAGImg2ImgPipeline": Entry(
        made("StableDiffusion3PAGImg2ImgPipeline", lambda: {**sd3_parts(), "pag_applied_layers": ["blocks.0"]}),
        image_call(pag_scale=2.0, max_sequence_length=8, **SMALL),
    ),
    "StableDiffusionControlNetPAGInpaintPipeline": Entry(
        made(
            "StableDiffusionControlNetPAGInpaintPipeline",
            lambda: sd_parts(controlnet=controlnet(), pag_applied_layers="mid"),
        ),
        image_call(mask_image=mask, control_image=other_picture, pag_scale=2.0, **SMALL),
    ),
    "StableDiffusionPAGInpaintPipeline": Entry(
        made("StableDiffusionPAGInpaintPipeline", lambda: sd_parts(pag_applied_layers="mid")),
        image_call(mask_image=mask, pag_scale=2.0, **SMALL),
    ),
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": Entry(
        made(
            "StableDiffusionXLControlNetPAGImg2ImgPipeline",
            lambda: sdxl_parts(6, controlnet=sdxl_controlnet(), pag_applied_layers="mid"),
        ),
        image_call(control_image=other_picture, pag_scale=2.0),
    ),
    "StableDiffusionXLPAGInpaintPipeline": Entry(
        made("StableDiffusionXLPAGInpaintPipeline", lambda: sdxl_parts(6, pag_applied_layers="mid")),
        image_call(mask_image=mask, pag_scale=2.0, **SMALL),
    ),
    "ZImageInpaintPipeline": Entry(
        made("ZImageInpaintPipeline", z_image_parts), lambda: {**z_image_call(), "mask_image": mask()}
    ),
}
