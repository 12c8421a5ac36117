"""The video-to-video pipelines of the tests, small."""

from __future__ import annotations

from typing import Any

import torch
from tiny_parts import clip_text, clip_tokenizer, film, image_vae, sd_unet, seeded
from zoo import PROMPT, Entry, controlnet, flow_scheduler, made, numbers, sd_parts, sd_scheduler


def zeroscope_parts() -> dict[str, Any]:
    from diffusers import UNet3DConditionModel

    network = UNet3DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return {
        "vae": image_vae(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "unet": seeded(network),
        "scheduler": sd_scheduler(),
    }


def animate_parts(**changed: Any) -> dict[str, Any]:
    from diffusers import MotionAdapter

    motion = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_norm_num_groups=8,
        motion_num_attention_heads=4,
        motion_max_seq_length=8,
    )
    own = {"unet": sd_unet(attention_head_dim=4), "motion_adapter": seeded(motion, 13), "image_encoder": None}
    parts = sd_parts(**own, **changed)
    del parts["safety_checker"]
    return parts


def cog_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

    network = CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=2,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=8,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=3.0
    )
    return {
        "transformer": seeded(network),
        "vae": seeded(vae),
        "scheduler": scheduler,
        "text_encoder": None,
        "tokenizer": None,
    }


def cog_dpm_parts() -> dict[str, Any]:
    from diffusers import CogVideoXDPMScheduler

    parts = cog_parts()
    return {**parts, "scheduler": CogVideoXDPMScheduler.from_config(parts["scheduler"].config)}


def embeds_call(frames: int, width: int, length: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "video": film(frames),
        "prompt_embeds": numbers(1, length, width),
        "negative_prompt_embeds": numbers(1, length, width, seed=12),
        "guidance_scale": 4.0,
        "height": 32,
        "width": 32,
        **more,
    }


def wan_parts(flow_match: bool = False) -> dict[str, Any]:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel

    vae = AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    network = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return {
        "transformer": seeded(network),
        "vae": seeded(vae),
        "scheduler": flow_scheduler() if flow_match else scheduler,
        "text_encoder": None,
        "tokenizer": None,
    }


def ltx_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    network = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return {
        "transformer": seeded(network),
        "vae": seeded(vae),
        "scheduler": flow_scheduler(),
        "text_encoder": None,
        "tokenizer": None,
    }


def ltx2_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    network = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        qk_norm="rms_norm_across_heads",
        caption_channels=32,
        rope_double_precision=False,
        rope_type="split",
    )
    connectors = LTX2TextConnectors(
        caption_channels=32,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_theta=10000.0,
        rope_double_precision=False,
        causal_temporal_positioning=False,
        rope_type="split",
    )
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        attn_resolutions=None,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=8,
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )
    return {
        "scheduler": flow_scheduler(),
        "vae": seeded(vae),
        "audio_vae": seeded(audio_vae),
        "text_encoder": None,
        "tokenizer": None,
        "connectors": seeded(connectors),
        "transformer": seeded(network),
        "vocoder": seeded(vocoder),
    }


def ltx2_call() -> dict[str, Any]:
    """The second stage: given latents, noised to the first of the sigmas."""
    return {
        "prompt_embeds": numbers(1, 16, 96),
        "prompt_attention_mask": torch.ones(1, 16, dtype=torch.long),
        "negative_prompt_embeds": numbers(1, 16, 96, seed=12),
        "negative_prompt_attention_mask": torch.ones(1, 16, dtype=torch.long),
        "latents": numbers(1, 4, 3, 8, 8),
        "sigmas": [0.7, 0.4, 0.2],
        "noise_scale": 0.7,
        "num_inference_steps": 3,
        "strength": ...,
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "guidance_scale": 3.0,
        "stg_scale": 0.0,
        "modality_scale": 1.0,
        "audio_guidance_scale": 1.0,
        "audio_stg_scale": 0.0,
        "audio_modality_scale": 1.0,
        "use_cross_timestep": False,
    }


def ltx2_larger_call() -> dict[str, Any]:
    """Latents of just the size asked for, which its siblings insist on."""
    return {**ltx2_call(), "latents": numbers(1, 4, 3, 16, 16)}


VIDEOS: dict[str, Entry] = {
    "LTX2ConditionPipeline": Entry(made("LTX2ConditionPipeline", ltx2_parts), ltx2_larger_call),
    "LTX2InContextPipeline": Entry(made("LTX2InContextPipeline", ltx2_parts), ltx2_larger_call),
    "LTX2Pipeline": Entry(made("LTX2Pipeline", ltx2_parts), ltx2_call),
    "VideoToVideoSDPipeline": Entry(
        made("VideoToVideoSDPipeline", zeroscope_parts), lambda: {**PROMPT, "video": film()}
    ),
    "AnimateDiffVideoToVideoPipeline": Entry(
        made("AnimateDiffVideoToVideoPipeline", animate_parts),
        lambda: {**PROMPT, "video": film(4), "height": 32, "width": 32},
    ),
    "AnimateDiffVideoToVideoControlNetPipeline": Entry(
        made(
            "AnimateDiffVideoToVideoControlNetPipeline",
            lambda: animate_parts(controlnet=controlnet(attention_head_dim=4)),
        ),
        lambda: {**PROMPT, "video": film(4), "conditioning_frames": film(4, seed=9), "height": 32, "width": 32},
    ),
    "CogVideoXVideoToVideoPipeline": Entry(
        made("CogVideoXVideoToVideoPipeline", cog_parts), lambda: embeds_call(9, 32, strength=0.8)
    ),
    "CogVideoXVideoToVideoPipeline (DPM)": Entry(
        made("CogVideoXVideoToVideoPipeline", cog_dpm_parts),
        lambda: embeds_call(9, 32, strength=0.8, use_dynamic_cfg=True),
    ),
    "WanVideoToVideoPipeline": Entry(made("WanVideoToVideoPipeline", wan_parts), lambda: embeds_call(9, 32)),
    "WanVideoToVideoPipeline (flow matching)": Entry(
        made("WanVideoToVideoPipeline", lambda: wan_parts(flow_match=True)), lambda: embeds_call(9, 32)
    ),
    "LTXConditionPipeline": Entry(
        made("LTXConditionPipeline", ltx_parts),
        lambda: embeds_call(
            9,
            32,
            video=...,
            strength=...,
            denoise_strength=0.6,
            num_frames=9,
            latents=numbers(1, 8, 3, 8, 8),
            prompt_attention_mask=torch.ones(1, 8),
            negative_prompt_attention_mask=torch.ones(1, 8),
        ),
    ),
}
