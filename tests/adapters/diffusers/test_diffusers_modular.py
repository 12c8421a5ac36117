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
    # A block of its own has no way to hand its last prediction to the denoising step.
    wrapped = nc_refiner.wrap(pipe, iterations=iterations, cutoff=cutoff, reuse_prediction=False)
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


def test_wrap_names_the_blocks(pipe: Any) -> None:
    with pytest.raises(TypeError, match=r"Modular Diffusers pipeline.*integrations\.diffusers_modular"):
        nc_refiner.wrap(pipe)


def wan(iterations: int, cutoff: float = 1.0, output: str = "latents") -> Any:
    from diffusers import ClassifierFreeGuidance
    from zoo_video import embeds_call, wan_parts

    from integrations.diffusers_modular import wan_video_to_video

    blocks = wan_video_to_video()
    blocks.sub_blocks.pop("text_encoder")
    pipe = blocks.init_pipeline()
    parts = {name: part for name, part in wan_parts().items() if part is not None}
    pipe.update_components(**parts, guider=ClassifierFreeGuidance(guidance_scale=4.0))
    pipe.set_progress_bar_config(disable=True)
    call = embeds_call(9, 32)
    del call["guidance_scale"]
    with counted(pipe) as calls:
        found = pipe(
            **call,
            strength=0.6,
            num_inference_steps=5,
            generator=torch.Generator().manual_seed(0),
            calibration_iterations=iterations,
            calibration_cutoff=cutoff,
            output=output,
        )
    assert len(calls) == 2 * (3 + (iterations if cutoff else 0))
    return found


@pytest.mark.parametrize(("iterations", "cutoff"), [(0, 1.0), (3, 0.0), (1, 1.0), (2, 0.5)])
def test_wan_from_a_video_does_what_wrap_does(iterations: int, cutoff: float) -> None:
    from zoo import generate
    from zoo_video import VIDEOS

    entry = VIDEOS["WanVideoToVideoPipeline"]
    wrapped = nc_refiner.wrap(entry.build(), iterations=iterations, cutoff=cutoff, reuse_prediction=False)
    wanted = generate(wrapped, entry, strength=0.6)
    found = wan(iterations, cutoff)
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()))
    if iterations and cutoff:
        assert not torch.allclose(found, wan(0), atol=1e-2)
        assert len(wan(iterations, cutoff, "calibration_trace").content_loss) == iterations


def test_wan_refuses_in_words() -> None:
    with pytest.raises(ValueError, match="iterations"):
        wan(-1)


def ltx2(iterations: int, cutoff: float = 1.0, output: str = "latents", **changed: Any) -> Any:
    from diffusers import LTX2Guidance
    from tiny_parts import word_tokenizer
    from zoo_video import ltx2_larger_call, ltx2_parts

    from integrations.diffusers_modular import ltx2_second_stage

    blocks = ltx2_second_stage()
    for name in ("prompt_enhancer", "duration"):
        blocks.sub_blocks.pop(name)
    blocks.sub_blocks["text_encoder"].sub_blocks.pop("text_encoder")
    pipe = blocks.init_pipeline()
    parts = {name: part for name, part in ltx2_parts().items() if part is not None and name in pipe.components}
    parts["tokenizer"] = word_tokenizer(17)  # asked for the side it pads on alone
    parts["tokenizer"].padding_side = "left"
    plain: dict[str, Any] = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.7}
    pipe.update_components(
        **parts,
        guider=LTX2Guidance(guidance_scale=3.0, **plain),
        audio_guider=LTX2Guidance(guidance_scale=1.0, **plain),
    )
    pipe.set_progress_bar_config(disable=True)
    names = (
        *("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"),
        *("latents", "sigmas", "noise_scale", "num_inference_steps", "height", "width", "num_frames"),
        "use_cross_timestep",
    )
    call = {name: value for name, value in ltx2_larger_call().items() if name in names}
    return pipe(
        **{**call, **changed},
        batch_size=1,
        dtype=torch.float32,
        generator=torch.Generator().manual_seed(0),
        calibration_iterations=iterations,
        calibration_cutoff=cutoff,
        output=output,
    )


def test_ltx2s_second_stage_is_calibrated() -> None:
    stock, none, one, three = ltx2(0), ltx2(2, 0.0), ltx2(1), ltx2(3, 0.5)
    assert torch.equal(stock, none)
    assert not torch.allclose(stock, one, atol=1e-3) and not torch.allclose(one, three, atol=1e-3)
    losses = ltx2(3, output="calibration_trace").content_loss
    assert len(losses) == 3
    # Without latents it is the first stage, which has nothing to keep.
    assert ltx2(2, output="calibration_trace", latents=None, noise_scale=0.0).content_loss == ()


@pytest.mark.parametrize("iterations", [1, 2])
def test_ltx2s_second_stage_has_the_trace_that_wrap_has(iterations: int) -> None:
    from zoo import Entry, generate, made
    from zoo_video import ltx2_larger_call, ltx2_parts

    entry = Entry(made("LTX2Pipeline", ltx2_parts), ltx2_larger_call)
    wrapped = nc_refiner.wrap(entry.build(), iterations=iterations, mode="replay")
    generate(wrapped, entry)
    wanted = torch.tensor(wrapped.calibration_trace.content_loss)
    found = torch.tensor(ltx2(iterations, output="calibration_trace").content_loss)
    assert torch.allclose(found, wanted, rtol=1e-3)
