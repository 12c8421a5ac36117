"""Small parts for real diffusers pipelines: random but non-trivial weights, tokenizers made on the spot."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import torch


def seeded(module: torch.nn.Module, seed: int = 0) -> Any:
    """Draw every parameter anew: freshly made models end in zero layers, and a test against those shows nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                noise *= parameter[0].numel() ** -0.5
            elif name.endswith("weight"):
                noise = 1 + 0.1 * noise
            else:
                noise *= 0.1
            parameter.copy_(noise)
    return module.eval().requires_grad_(False)


@functools.cache
def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    folder = Path(tempfile.mkdtemp())
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


@functools.cache
def word_tokenizer(length: int = 16) -> Any:
    """For T5- and Qwen-like encoders, which only need ids, a mask and padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "a", "camel", "desert", "rain"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def clip_text(hidden: int = 32, projection: bool = False, seed: int = 1) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=37,
        projection_dim=hidden,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=16,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return seeded((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), seed)


def t5_text(hidden: int = 32, seed: int = 2) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=16, d_model=hidden, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return seeded(T5EncoderModel(config), seed)


def image_vae(channels: int = 4, seed: int = 3, **changed: Any) -> Any:
    from diffusers import AutoencoderKL

    config: dict[str, Any] = dict(
        block_out_channels=(16, 32),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=32,
    )
    return seeded(AutoencoderKL(**{**config, **changed}), seed)


def sd_unet(seed: int = 4, **changed: Any) -> Any:
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = dict(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return seeded(UNet2DConditionModel(**{**config, **changed}), seed)


SDXL_UNET: dict[str, Any] = dict(
    attention_head_dim=(2, 4),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=8,
    transformer_layers_per_block=(1, 2),
    cross_attention_dim=32,
)


def sdxl_unet(ids: int = 5, seed: int = 5, **changed: Any) -> Any:
    """`ids`: numbers in the added time embedding; 5 for the refiner (aesthetic score), 6 for the base."""
    width = ids * SDXL_UNET["addition_time_embed_dim"] + 32
    return sd_unet(seed, **{**SDXL_UNET, "projection_class_embeddings_input_dim": width, **changed})


def upscale_pipeline() -> Any:
    """Stable Diffusion's ×4 upscaler: a VAE of three levels decodes latents of the picture's own size."""
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline

    levels: dict[str, Any] = {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "scaling_factor": 0.08333,
    }
    return StableDiffusionUpscalePipeline(
        vae=image_vae(**levels),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=sd_unet(in_channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
        max_noise_level=350,
    )


def picture(batch: int = 1, size: int = 32, seed: int = 6) -> torch.Tensor:
    """(B, 3, size, size) in [0, 1]."""
    return torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(seed))


def film(frames: int = 5, size: int = 32, seed: int = 7) -> list[Any]:
    """A list of PIL pictures that differ."""
    from PIL import Image

    numbers = torch.randint(0, 256, (frames, size, size, 3), generator=torch.Generator().manual_seed(seed))
    return [Image.fromarray(frame.numpy()) for frame in numbers.to(torch.uint8)]
