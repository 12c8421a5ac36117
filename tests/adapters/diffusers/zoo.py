"""Every pipeline the tests run, small: how it is built and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_parts import (
    clip_text,
    clip_tokenizer,
    image_vae,
    picture,
    sd_unet,
    sdxl_unet,
    seeded,
    t5_text,
    word_tokenizer,
)

STEPS = 5


@dataclass(frozen=True)
class Entry:
    """`build()` makes the pipeline with its default scheduler; `arguments()` makes the call, less the generator."""

    build: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]]
    guided: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def generate(pipe: Any, entry: Entry, seed: int = 0, **changed: Any) -> Any:
    """The first field of the pipeline's answer, under a fresh generator."""
    arguments: dict[str, Any] = {
        "num_inference_steps": STEPS,
        "strength": 0.6,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
        **entry.arguments(),
        **changed,
    }
    for name in [name for name, value in arguments.items() if value is ...]:
        del arguments[name]
    return pipe(**arguments)[0]


def sd_scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def sdxl_scheduler() -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def sd_parts(**changed: Any) -> dict[str, Any]:
    return {
        "vae": image_vae(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "unet": sd_unet(),
        "scheduler": sd_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        **changed,
    }


def sdxl_parts(ids: int = 5, **changed: Any) -> dict[str, Any]:
    return {
        "vae": image_vae(),
        "text_encoder": clip_text(16),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text(16, projection=True),
        "tokenizer_2": clip_tokenizer(),
        "unet": sdxl_unet(ids, projection_class_embeddings_input_dim=ids * 8 + 16),
        "scheduler": sdxl_scheduler(),
        **changed,
    }


def refiner_parts() -> dict[str, Any]:
    """Like the SDXL refiner: no first text encoder, an aesthetic score among the added ids."""
    return {
        **sdxl_parts(),
        "text_encoder": None,
        "tokenizer": None,
        "text_encoder_2": clip_text(32, projection=True),
        "unet": sdxl_unet(5),
        "requires_aesthetics_score": True,
        "force_zeros_for_empty_prompt": False,
    }


def controlnet(kind: str = "ControlNetModel", seed: int = 8, **changed: Any) -> Any:
    import diffusers

    config: dict[str, Any] = dict(
        block_out_channels=(16, 32),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        conditioning_embedding_out_channels=(8, 16),
    )
    return seeded(getattr(diffusers, kind)(**{**config, **changed}), seed)


def sdxl_controlnet(ids: int = 6, kind: str = "ControlNetModel", **changed: Any) -> Any:
    from tiny_parts import SDXL_UNET

    return controlnet(kind, **{**SDXL_UNET, "projection_class_embeddings_input_dim": ids * 8 + 16, **changed})


def flow_scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def made(name: str, parts: Callable[[], dict[str, Any]]) -> Callable[[], Any]:
    """Builds the diffusers class `name`, silent."""

    def build() -> Any:
        import diffusers

        pipe = getattr(diffusers, name)(**parts())
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return build


PROMPT = {"prompt": "a camel", "negative_prompt": "rain", "guidance_scale": 4.0}


def image_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**PROMPT, "image": picture(), **{k: v() if callable(v) else v for k, v in more.items()}}


def mask() -> torch.Tensor:
    """(1, 1, 32, 32): the right half is to be painted."""
    out = torch.zeros(1, 1, 32, 32)
    out[..., 16:] = 1
    return out


def other_picture() -> torch.Tensor:
    return picture(seed=9)


def flux_parts(controlled: bool = False, **changed: Any) -> dict[str, Any]:
    from diffusers import FluxTransformer2DModel

    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=32 if controlled else 16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=controlled,
    )
    return {
        "scheduler": flow_scheduler(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_text(),
        "tokenizer_2": word_tokenizer(),
        "transformer": seeded(network),
        "vae": image_vae(shift_factor=0.06, scaling_factor=1.5),
        **changed,
    }


def flux_controlnet() -> Any:
    from diffusers import FluxControlNetModel

    return seeded(
        FluxControlNetModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
        ),
        10,
    )


def chroma_parts() -> dict[str, Any]:
    from diffusers import ChromaTransformer2DModel

    parts = flux_parts()
    network = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return {
        "scheduler": flow_scheduler(),
        "text_encoder": t5_text(),
        "tokenizer": word_tokenizer(),
        "transformer": seeded(network),
        "vae": parts["vae"],
    }


def sd3_parts(channels: int = 4) -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel

    network = SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=channels,
    )
    return {
        "scheduler": flow_scheduler(),
        "text_encoder": clip_text(16, projection=True),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text(16, projection=True),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5_text(),
        "tokenizer_3": word_tokenizer(),
        "transformer": seeded(network),
        "vae": image_vae(channels, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False),
    }


def qwen_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    network = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return {
        "scheduler": flow_scheduler(),
        "text_encoder": None,
        "tokenizer": None,
        "transformer": seeded(network),
        "vae": seeded(vae),
    }


def numbers(*shape: int, seed: int = 11) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def qwen_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        "image": picture(),
        "prompt_embeds": numbers(1, 6, 16),
        "prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long),
        "negative_prompt_embeds": numbers(1, 6, 16, seed=12),
        "negative_prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long),
        "true_cfg_scale": 3.0,
        "height": 32,
        "width": 32,
        **{k: v() if callable(v) else v for k, v in more.items()},
    }


def z_image_parts() -> dict[str, Any]:
    from diffusers import ZImageTransformer2DModel

    network = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        qk_norm=True,
        cap_feat_dim=16,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return {
        "scheduler": flow_scheduler(),
        "text_encoder": None,
        "tokenizer": None,
        "transformer": seeded(network),
        "vae": image_vae(shift_factor=0.06, scaling_factor=1.5),
    }


def z_image_call() -> dict[str, Any]:
    return {
        "image": picture(),
        "prompt_embeds": [numbers(6, 16)],
        "negative_prompt_embeds": [numbers(6, 16, seed=12)],
        "guidance_scale": 3.0,
        "height": 32,
        "width": 32,
    }


def kandinsky_unet(hint: bool = False) -> Any:
    from diffusers import UNet2DConditionModel

    return seeded(
        UNet2DConditionModel(
            in_channels=8 if hint else 4,
            out_channels=8,
            addition_embed_type="image_hint" if hint else "image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(16, 32),
            norm_num_groups=8,
            layers_per_block=1,
            encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=32,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
        )
    )


def kandinsky_parts(hint: bool = False) -> dict[str, Any]:
    from diffusers import DDPMScheduler, VQModel

    movq = VQModel(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        vq_embed_dim=4,
    )
    scheduler = DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=True,
        clip_sample_range=2.0,
        variance_type="learned_range",
    )
    return {"unet": kandinsky_unet(hint), "scheduler": scheduler, "movq": seeded(movq)}


def kandinsky_call(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {
        "image": picture(),
        "image_embeds": numbers(1, 32),
        "negative_image_embeds": numbers(1, 32, seed=12),
        "height": 32,
        "width": 32,
        "guidance_scale": 3.0,
        **{k: v() if callable(v) else v for k, v in more.items()},
    }


IMAGES: dict[str, Entry] = {
    "StableDiffusionImg2ImgPipeline": Entry(made("StableDiffusionImg2ImgPipeline", sd_parts), image_call()),
    "StableDiffusionInpaintPipeline": Entry(
        made("StableDiffusionInpaintPipeline", sd_parts),
        image_call(mask_image=mask, height=32, width=32),
    ),
    "StableDiffusionControlNetImg2ImgPipeline": Entry(
        made("StableDiffusionControlNetImg2ImgPipeline", lambda: sd_parts(controlnet=controlnet())),
        image_call(control_image=other_picture),
    ),
    "StableDiffusionControlNetInpaintPipeline": Entry(
        made("StableDiffusionControlNetInpaintPipeline", lambda: sd_parts(controlnet=controlnet())),
        image_call(control_image=other_picture, mask_image=mask, height=32, width=32),
    ),
    "StableDiffusionPAGImg2ImgPipeline": Entry(
        made("StableDiffusionPAGImg2ImgPipeline", lambda: sd_parts(pag_applied_layers="mid")),
        image_call(pag_scale=2.0),
    ),
    "StableDiffusionXLImg2ImgPipeline": Entry(
        made("StableDiffusionXLImg2ImgPipeline", lambda: sdxl_parts(requires_aesthetics_score=True)), image_call()
    ),
    "StableDiffusionXLImg2ImgPipeline (refiner)": Entry(
        made("StableDiffusionXLImg2ImgPipeline", refiner_parts), image_call()
    ),
    "StableDiffusionXLInpaintPipeline": Entry(
        made("StableDiffusionXLInpaintPipeline", lambda: sdxl_parts(6)),
        image_call(mask_image=mask, height=32, width=32),
    ),
    "StableDiffusionXLControlNetImg2ImgPipeline": Entry(
        made("StableDiffusionXLControlNetImg2ImgPipeline", lambda: sdxl_parts(6, controlnet=sdxl_controlnet())),
        image_call(control_image=other_picture),
    ),
    "StableDiffusionXLControlNetInpaintPipeline": Entry(
        made("StableDiffusionXLControlNetInpaintPipeline", lambda: sdxl_parts(6, controlnet=sdxl_controlnet())),
        image_call(control_image=other_picture, mask_image=mask, height=32, width=32),
    ),
    "StableDiffusionXLPAGImg2ImgPipeline": Entry(
        made("StableDiffusionXLPAGImg2ImgPipeline", lambda: sdxl_parts(6, pag_applied_layers="mid")),
        image_call(pag_scale=2.0),
    ),
    "StableDiffusion3Img2ImgPipeline": Entry(
        made("StableDiffusion3Img2ImgPipeline", sd3_parts), image_call(height=32, width=32, max_sequence_length=8)
    ),
    "StableDiffusion3InpaintPipeline": Entry(
        made("StableDiffusion3InpaintPipeline", lambda: sd3_parts(16)),
        image_call(mask_image=mask, height=32, width=32, max_sequence_length=8),
    ),
    "FluxImg2ImgPipeline": Entry(
        made("FluxImg2ImgPipeline", flux_parts),
        image_call(true_cfg_scale=2.0, height=32, width=32, max_sequence_length=8),
    ),
    "FluxInpaintPipeline": Entry(
        made("FluxInpaintPipeline", flux_parts),
        image_call(mask_image=mask, true_cfg_scale=2.0, height=32, width=32, max_sequence_length=8),
    ),
    "FluxControlImg2ImgPipeline": Entry(
        made("FluxControlImg2ImgPipeline", lambda: flux_parts(controlled=True)),
        image_call(negative_prompt=..., control_image=other_picture, height=32, width=32, max_sequence_length=8),
        guided=False,
    ),
    "FluxControlNetImg2ImgPipeline": Entry(
        made("FluxControlNetImg2ImgPipeline", lambda: flux_parts(controlnet=flux_controlnet())),
        image_call(negative_prompt=..., control_image=other_picture, height=32, width=32, max_sequence_length=8),
        guided=False,
    ),
    "ChromaImg2ImgPipeline": Entry(
        made("ChromaImg2ImgPipeline", chroma_parts), image_call(height=32, width=32, max_sequence_length=8)
    ),
    "QwenImageImg2ImgPipeline": Entry(made("QwenImageImg2ImgPipeline", qwen_parts), qwen_call()),
    "QwenImageInpaintPipeline": Entry(made("QwenImageInpaintPipeline", qwen_parts), qwen_call(mask_image=mask)),
    "ZImageImg2ImgPipeline": Entry(made("ZImageImg2ImgPipeline", z_image_parts), z_image_call),
    "KandinskyV22Img2ImgPipeline": Entry(made("KandinskyV22Img2ImgPipeline", kandinsky_parts), kandinsky_call()),
    "KandinskyV22ControlnetImg2ImgPipeline": Entry(
        made("KandinskyV22ControlnetImg2ImgPipeline", lambda: kandinsky_parts(hint=True)),
        kandinsky_call(hint=lambda: picture(size=128, seed=9), output_type="pt"),
    ),
    "LatentConsistencyModelImg2ImgPipeline": Entry(
        made("LatentConsistencyModelImg2ImgPipeline", lambda: lcm_parts()),
        image_call(negative_prompt=..., original_inference_steps=50),
        guided=False,
    ),
}


def lcm_parts() -> dict[str, Any]:
    from diffusers import LCMScheduler

    return sd_parts(
        unet=sd_unet(time_cond_proj_dim=16),
        scheduler=LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )
