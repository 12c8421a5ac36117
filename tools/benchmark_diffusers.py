"""Wall clock and peak memory of N = 1, 2, 3 against the stock pipeline, in one run, with random weights.

- `python tools/benchmark_diffusers.py`: SDXL refiner and Wan 1.3B at real size; wants a GPU
- `python tools/benchmark_diffusers.py --dry-run`: the same code on tiny models, on the CPU
- `python tools/benchmark_diffusers.py --only wan --json wan.json`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.versus_stock import ITERATIONS, compare, lines, write_json  # noqa: E402

import nc_refiner  # noqa: E402
from nc_refiner.adapters.diffusers.loading import default_device, default_dtype, require_diffusers  # noqa: E402

Call = Callable[[], dict[str, Any]]


def _on(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)


def sdxl_refiner(tiny: bool, device: torch.device, dtype: torch.dtype) -> tuple[Any, Call]:
    """The SDXL refiner's architecture at 1024×1024 (tiny: 64×64), strength 0.3 of 50 steps."""
    diffusers = require_diffusers()
    widths, width, text, size = ((16, 32, 32, 32), 8, 32, 64) if tiny else ((384, 768, 1536, 1536), 64, 1280, 1024)
    with torch.device(device):
        unet = diffusers.UNet2DConditionModel(
            sample_size=size // 8,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=tuple(channels // width for channels in widths),
            cross_attention_dim=text,
            transformer_layers_per_block=1 if tiny else 4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8 if tiny else 256,
            projection_class_embeddings_input_dim=5 * 8 + text if tiny else 5 * 256 + text,
            norm_num_groups=8 if tiny else 32,
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 16, 16) if tiny else (128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1 if tiny else 2,
            latent_channels=4,
            norm_num_groups=8 if tiny else 32,
            sample_size=size,
            scaling_factor=0.13025,
            force_upcast=False,
        )
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=_on(vae, device, dtype),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=_on(unet, device, dtype),
        scheduler=scheduler,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, size, size), generator=generator)
    tokens = [torch.randn((1, 77, text), generator=generator).to(device, dtype) for _ in range(2)]
    pooled = [torch.randn((1, text), generator=generator).to(device, dtype) for _ in range(2)]

    def call() -> dict[str, Any]:
        return {
            "image": image,
            "prompt_embeds": tokens[0],
            "negative_prompt_embeds": tokens[1],
            "pooled_prompt_embeds": pooled[0],
            "negative_pooled_prompt_embeds": pooled[1],
            "strength": 0.3,
            "num_inference_steps": 10 if tiny else 50,
        }

    return pipe, call


def wan(tiny: bool, device: torch.device, dtype: torch.dtype) -> tuple[Any, Call]:
    """Wan 2.1 1.3B's architecture on 33 frames of 480×832 (tiny: 9 of 32×32), strength 0.6 of 30 steps."""
    diffusers = require_diffusers()
    frames, height, width, text = (9, 32, 32, 32) if tiny else (33, 480, 832, 4096)
    with torch.device(device):
        transformer = diffusers.WanTransformer3DModel(
            num_attention_heads=2 if tiny else 12,
            attention_head_dim=12 if tiny else 128,
            ffn_dim=32 if tiny else 8960,
            num_layers=2 if tiny else 30,
            text_dim=text,
        )
        vae = diffusers.AutoencoderKLWan(
            base_dim=4 if tiny else 96, dim_mult=[1, 1, 1, 1] if tiny else [1, 2, 4, 4], num_res_blocks=1 if tiny else 2
        )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipe = diffusers.WanVideoToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=_on(transformer, device, dtype),
        vae=_on(vae, device, torch.float32),
        scheduler=scheduler,
    )
    generator = torch.Generator().manual_seed(0)
    video = list(torch.rand((frames, 3, height, width), generator=generator))
    tokens = [torch.randn((1, 8 if tiny else 512, text), generator=generator).to(device, dtype) for _ in range(2)]

    def call() -> dict[str, Any]:
        return {
            "video": video,
            "prompt_embeds": tokens[0],
            "negative_prompt_embeds": tokens[1],
            "height": height,
            "width": width,
            "strength": 0.6,
            "num_inference_steps": 5 if tiny else 30,
            "guidance_scale": 5.0,
        }

    return pipe, call


MODELS = {"sdxl-refiner": sdxl_refiner, "wan": wan}


def measure(name: str, tiny: bool, device: torch.device, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """Rows for stock and N = 1, 2, 3: the median of `repeats` calls, after one to warm up, taken in turn."""
    pipe, call = MODELS[name](tiny, device, dtype)
    pipe.set_progress_bar_config(disable=True)
    network = getattr(pipe, "transformer", None) or pipe.unet
    evaluations: list[int] = []
    network.register_forward_pre_hook(lambda *_: evaluations.append(1))

    def run(subject: Any) -> int:
        evaluations.clear()
        subject(**call(), generator=torch.Generator().manual_seed(0), output_type="pt")
        return len(evaluations)

    calibrated = {f"N={n}": nc_refiner.wrap(pipe, iterations=n, mode="in_loop") for n in ITERATIONS if n}
    subjects = {label: partial(run, subject) for label, subject in {"stock": pipe, **calibrated}.items()}
    run(pipe)
    return compare(subjects, device, repeats, {"model": name})


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when every model was measured, 2 where a GPU is wanted and there is none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--only", choices=sorted(MODELS), help="one model")
    parser.add_argument("--repeats", type=int, default=3, help="calls per row; the median is told")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    options = parser.parse_args(arguments)
    device = torch.device("cpu") if options.dry_run else default_device()
    if device.type == "cpu" and not options.dry_run:
        sys.stderr.write("these models want a GPU and there is none here; try --dry-run\n")
        return 2
    rows = []
    for name in [options.only] if options.only else list(MODELS):
        found = measure(name, options.dry_run, device, default_dtype(device), max(1, options.repeats))
        sys.stdout.write(lines(found, "model"))
        rows += found
    if options.json:
        write_json(options.json, device, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
