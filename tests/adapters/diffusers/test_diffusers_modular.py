"""The Modular Diffusers block against the classic pipeline, calibrated by `wrap`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks, StableDiffusionXLModularPipeline
from tiny_parts import picture
from watching import counted
from zoo import sdxl_parts

import nc_refiner
from integrations.diffusers_modular import StableDiffusionXLCalibrationStep, with_calibration
from nc_refiner.adapters.diffusers.errors import NotSDEdit

CALL = {"prompt": "a camel", "negative_prompt": "rain", "strength": 0.6, "num_inference_steps": 5}


def modular(blocks: Any) -> Any:
    from diffusers import ClassifierFreeGuidance

    pipe = blocks.init_pipeline()
    pipe.update_components(**sdxl_parts(6), guider=ClassifierFreeGuidance(guidance_scale=4.0))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents(pipe: Any, **more: Any) -> torch.Tensor:
    out: torch.Tensor = pipe(
        **{**CALL, "image": picture(), "generator": torch.Generator().manual_seed(0), "output": "latents", **more}
    )
    return out


def classic(iterations: int, cutoff: float = 1.0) -> torch.Tensor:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    pipe = StableDiffusionXLImg2ImgPipeline(**sdxl_parts(6))
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    wrapped = nc_refiner.wrap(pipe, iterations=iterations, cutoff=cutoff)
    out: torch.Tensor = wrapped(
        **CALL, image=picture(), guidance_scale=4.0, generator=generator, output_type="latent"
    ).images
    return out


@pytest.fixture(scope="module")
def pipe() -> Any:
    return modular(with_calibration(StableDiffusionXLAutoBlocks()))


def test_it_does_what_wrap_does(pipe: Any) -> None:
    assert isinstance(pipe, StableDiffusionXLModularPipeline)
    stock = latents(modular(StableDiffusionXLAutoBlocks()))
    assert torch.equal(latents(pipe, calibration_iterations=0), stock)
    assert torch.equal(latents(pipe, calibration_iterations=2, calibration_cutoff=0.0), stock)
    scale = float(classic(0).abs().max())
    assert torch.allclose(stock, classic(0), atol=1e-4 * scale)
    for iterations, cutoff in ((1, 1.0), (2, 0.5)):
        ours = latents(pipe, calibration_iterations=iterations, calibration_cutoff=cutoff)
        assert torch.allclose(ours, classic(iterations, cutoff), atol=1e-3 * scale)
        assert not torch.allclose(ours, stock, atol=1e-2)


def test_it_costs_n_guided_evaluations_and_keeps_a_trace(pipe: Any) -> None:
    with counted(pipe) as calls:
        latents(pipe, calibration_iterations=0)
        assert len(calls) == 3 * 2
        trace = latents(pipe, calibration_iterations=3, output="calibration_trace")
    assert len(calls) == 3 * 2 + (3 + 3) * 2
    assert len(trace.content_loss) == 3


def test_what_it_refuses(pipe: Any) -> None:
    with pytest.raises(NotSDEdit, match="denoising_start is given"):
        latents(pipe, denoising_start=0.5, calibration_iterations=1)
    with pytest.raises(ValueError, match="iterations"):
        latents(pipe, calibration_iterations=-1)
    with pytest.raises(ValueError, match="no block named 'denoise'"):
        with_calibration(StableDiffusionXLCalibrationStep())
