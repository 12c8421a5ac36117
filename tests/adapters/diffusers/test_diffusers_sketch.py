"""A sketch becomes a picture at low cutoff: its layout is held, everything finer is as free as without calibration."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch
from zoo import sdxl_parts

import nc_refiner
from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.frequency import LowPass
from nc_refiner.video import read_clip

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "sketch.yaml"
CUTOFF = 0.15


def sketch(size=64):
    """Sky, a hill with a drawn outline, a sun: flat colours `(1, 3, size, size)`."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    ridge = 0.65 - 0.25 * torch.exp(-(((x - 0.35) / 0.15) ** 2))
    picture = torch.tensor([0.55, 0.7, 0.95])[:, None, None].expand(3, size, size)
    for where, colour in (
        ((x - 0.75) ** 2 + (y - 0.25) ** 2 < 0.01, (1.0, 0.8, 0.2)),
        (y > ridge, (0.2, 0.45, 0.25)),
        ((y - ridge).abs() < 0.012, (0.0, 0.0, 0.0)),
    ):
        picture = torch.where(where, torch.tensor(colour)[:, None, None], picture)
    return picture[None].contiguous()


@pytest.fixture(scope="module")
def pipe():
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(**sdxl_parts(6))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_layout_is_held_and_the_rest_is_free(pipe):
    picture = sketch()
    with torch.no_grad():
        wanted = pipe.vae.encode(picture * 2 - 1).latent_dist.mode() * pipe.vae.config.scaling_factor
    low_pass = LowPass(*wanted.shape[-2:], CUTOFF)

    def drawn(host, seed):
        """How far the low band is from the sketch's, and what is above it."""
        latents = host(
            prompt="a camel",
            image=picture,
            strength=0.9,
            num_inference_steps=10,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        ).images
        low = low_pass(latents)
        return float((low - low_pass(wanted)).norm()), latents - low

    held, whole = (nc_refiner.wrap(pipe, iterations=3, cutoff=cutoff) for cutoff in (CUTOFF, 1.0))
    for seed in range(2):
        far, free = drawn(pipe, seed)
        near, fine = drawn(held, seed)
        assert near < 0.75 * far
        # What the noise decides above the cutoff is decided as before; with everything held it is not.
        change = float((fine - free).norm() / free.norm())
        assert change < 0.5 * float((drawn(whole, seed)[1] - free).norm() / free.norm())
        assert abs(float(fine.norm() / free.norm()) - 1) < 0.1


def test_the_config_runs_on_a_drawing(pipe, tmp_path):
    from PIL import Image

    pixels = (sketch()[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "sketch.png")
    pipe.save_pretrained(tmp_path / "model")
    config = load_config(
        CONFIG,
        [
            f"base.path={tmp_path / 'sketch.png'}",
            "base.height=64",
            f"output={tmp_path / 'out'}",
            f"refiner.backbone={{adapter: diffusers, model: {tmp_path / 'model'}, device: cpu}}",
            "refiner.num_inference_steps=6",
        ],
    )
    assert (config.refiner.cutoff, config.refiner.strength) == (CUTOFF, 0.9)
    summary = CascadeRunner(config).run()
    assert not summary.failed, [item.error for item in summary.items]
    (item,) = summary.items
    assert read_clip(item.final).frames.shape == (1, 3, 64, 64)
