"""A diffusers pipeline as a refiner like any other, and loading one by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import IMAGES, numbers
from zoo_video import VIDEOS

import nc_refiner
from nc_refiner.adapters import create
from nc_refiner.adapters.diffusers import loading
from nc_refiner.adapters.diffusers.errors import NotSDEdit
from nc_refiner.adapters.diffusers.pipe_adapter import PipelineAdapter
from nc_refiner.refining import conformance

EMBEDS = {"prompt_embeds": numbers(1, 8, 32), "negative_prompt_embeds": numbers(1, 8, 32, seed=12)}
FLUX_CALL = {"max_sequence_length": 8, "true_cfg_scale": 2.0, "negative_prompt": "rain"}
CASES: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "SDXL refiner": (IMAGES["StableDiffusionXLImg2ImgPipeline (refiner)"], 1, {}),
    "SD": (IMAGES["StableDiffusionImg2ImgPipeline"], 2, {}),
    "Flux": (IMAGES["FluxImg2ImgPipeline"], 1, FLUX_CALL),
    "Qwen": (
        IMAGES["QwenImageImg2ImgPipeline"],
        1,
        {"prompt_embeds": numbers(1, 6, 16), "prompt_embeds_mask": torch.ones(1, 6, dtype=torch.long)},
    ),
    "zeroscope": (VIDEOS["VideoToVideoSDPipeline"], 4, {}),
    "AnimateDiff": (VIDEOS["AnimateDiffVideoToVideoPipeline"], 4, {}),
    "CogVideoX": (VIDEOS["CogVideoXVideoToVideoPipeline"], 6, EMBEDS),
    "Wan": (VIDEOS["WanVideoToVideoPipeline"], 6, EMBEDS),
}
STEPS = {"strength": 0.6, "num_inference_steps": 5}


def clip(frames: int, size: int = 32) -> nc_refiner.VideoClip:
    return nc_refiner.VideoClip(torch.rand((frames, 3, size, size), generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", CASES)
def test_refines_a_clip_like_any_other(name: str) -> None:
    entry, frames, call = CASES[name]
    refiner = nc_refiner.CalibratedRefiner.from_pipe(entry.build(), call, iterations=2)
    source = clip(frames)
    result = refiner(source, seed=3, prompt="a camel", **STEPS)
    assert result.clip.frames.shape == source.frames.shape
    assert len(result.trace.content_loss) == 2
    windows = len(result.receipt["windows"])
    assert 0 < result.receipt["evaluations"]["calibration"] <= 4 * windows
    assert result.receipt["adapter"]["pipeline"] == type(refiner.adapter.pipe).__name__
    assert len(result.receipt["timesteps"]) == 3
    again = refiner(source, seed=3, prompt="a camel", **STEPS)
    assert torch.equal(again.clip.frames, result.clip.frames)
    plain = refiner.with_calibration(iterations=0)(source, seed=3, prompt="a camel", **STEPS)
    assert plain.receipt["evaluations"]["calibration"] == 0
    assert not torch.equal(plain.clip.frames, result.clip.frames)


@pytest.mark.parametrize("name", CASES)
def test_hooks_agree_with_each_other(name: str) -> None:
    entry, frames, call = CASES[name]
    adapter = PipelineAdapter(entry.build(), **call)
    state = torch.get_rng_state()
    timesteps = adapter.timesteps(5, 0.6)
    frames = min(frames, adapter.requirements.max_frames or frames)
    condition = adapter.condition("a camel")
    generator = torch.Generator().manual_seed(1)
    reference = adapter.encode(clip(frames).frames, generator)
    assert reference.ndim == 5 and reference.shape[0] == 1
    assert torch.equal(reference, adapter.encode(clip(frames).frames, torch.Generator().manual_seed(1)))
    level = adapter.noise_level(timesteps.first)
    x_t = level.add_noise(reference, torch.randn(reference.shape, generator=generator))

    x0 = adapter.predict_x0(x_t, timesteps.first, condition)
    assert x0.shape == x_t.shape and torch.equal(x0, adapter.predict_x0(x_t, timesteps.first, condition))
    once = adapter.evaluations
    adapter.predict_x0(x_t, timesteps.first, condition)
    per_prediction = adapter.evaluations - once

    ticks: list[int] = []
    before = adapter.evaluations
    latents = adapter.denoise(x_t, timesteps, condition, on_step=lambda: ticks.append(1))
    assert len(ticks) == len(timesteps) == 3
    assert adapter.evaluations - before == 3 * per_prediction

    # The estimate of the first step, handed over, is the step itself; and it costs no evaluation.
    before = adapter.evaluations
    reused = adapter.denoise(x_t, timesteps, condition, first_x0=x0)
    assert adapter.evaluations - before == 2 * per_prediction
    assert torch.allclose(reused, latents, atol=1e-3 * float(latents.abs().max()))

    decoded = adapter.decode(reused)
    assert decoded.shape == (frames, 3, 32, 32)
    assert torch.allclose(adapter.decode(reused.clone()), decoded, atol=1e-4)  # by a call of one step
    assert torch.equal(torch.get_rng_state(), state)


def test_calibrating_through_the_adapter_is_what_wrap_does() -> None:
    """Same reference, same noise, same iterations: the adapter's x_t is the replay engine's."""
    entry = IMAGES["StableDiffusionXLImg2ImgPipeline (refiner)"]
    pipe, image = entry.build(), clip(1).frames
    adapter = PipelineAdapter(pipe, guidance_scale=4.0)
    start = adapter.timesteps(5, 0.6).first
    reference = adapter.encode(image, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    torch.randn((1, 4, 16, 16), generator=generator)  # the VAE's posterior sample comes first
    noise = torch.randn((1, 4, 16, 16), generator=generator)[:, :, None]
    level, condition = adapter.noise_level(start), adapter.condition("a camel")
    config = nc_refiner.NoiseCalibration(iterations=2, cutoff=0.5)
    x_t = level.add_noise(reference, noise)
    trace = nc_refiner.calibrate(x_t, reference, level, lambda x: adapter.predict_x0(x, start, condition), config).trace
    wrapped = nc_refiner.wrap(pipe, config)
    wrapped("a camel", image=image, guidance_scale=4.0, generator=torch.Generator().manual_seed(0), **STEPS)
    assert trace.content_loss == pytest.approx(wrapped.calibration_trace.content_loss, rel=1e-5)


def test_what_the_adapter_refuses() -> None:
    with pytest.raises(NotSDEdit, match="latents, not frames"):
        PipelineAdapter(VIDEOS["LTXConditionPipeline"].build())
    pipe = IMAGES["StableDiffusionImg2ImgPipeline"].build()
    with pytest.raises(TypeError, match="takes no colour"):
        PipelineAdapter(pipe, colour=1)
    adapter = PipelineAdapter(pipe)
    with pytest.raises(TypeError, match="takes no colour"):
        adapter.condition("a", colour=1)
    with pytest.raises(ValueError, match="Ask timesteps"):
        adapter.noise_level(torch.tensor(3))
    start = adapter.timesteps(5, 0.6).first
    with pytest.raises(ValueError, match="call encode"):
        adapter.predict_x0(torch.zeros(1, 4, 1, 16, 16), start, adapter.condition())
    with pytest.raises(NotImplementedError, match="call denoise"):
        adapter.step(*[torch.zeros(1)] * 2, adapter.timesteps(5, 0.6), 0)
    with pytest.raises(ValueError, match="raise strength"):
        adapter.timesteps(2, 0.1)
    for options in ({}, {"model": "x", "pipe": pipe}, {"pipe": pipe, "dtype": "float32"}):
        with pytest.raises(TypeError, match="either `model`"):
            create("diffusers", **options)


def test_a_user_pipeline_stays_as_it_is() -> None:
    pipe = IMAGES["StableDiffusionImg2ImgPipeline"].build()
    before = (
        type(pipe),
        sorted(vars(pipe)),
        dict(vars(pipe.scheduler)),
        sorted(vars(pipe.unet)),
        sorted(vars(pipe.vae)),
    )
    nc_refiner.CalibratedRefiner.from_pipe(pipe, iterations=1)(clip(1), seed=0, **STEPS)
    after = (
        type(pipe),
        sorted(vars(pipe)),
        dict(vars(pipe.scheduler)),
        sorted(vars(pipe.unet)),
        sorted(vars(pipe.vae)),
    )
    assert repr(after) == repr(before)


def test_text_is_encoded_once_for_all_frames() -> None:
    pipe = IMAGES["StableDiffusionImg2ImgPipeline"].build()
    texts: list[int] = []
    pipe.text_encoder.register_forward_pre_hook(lambda *_: texts.append(1))
    refiner = nc_refiner.CalibratedRefiner.from_pipe(pipe, iterations=2)
    refiner(clip(3), seed=0, prompt="a camel", **STEPS)
    assert len(texts) == 4  # no prompt, where only the VAE is asked, and "a camel"; each against the empty one


def test_a_pipeline_in_a_calibrated_block_is_not_calibrated_twice() -> None:
    pipe = IMAGES["StableDiffusionImg2ImgPipeline"].build()
    with nc_refiner.calibrated(pipe, iterations=3):
        inside = nc_refiner.CalibratedRefiner.from_pipe(pipe, iterations=1)(clip(1), seed=0, **STEPS)
    outside = nc_refiner.CalibratedRefiner.from_pipe(pipe, iterations=1)(clip(1), seed=0, **STEPS)
    assert torch.equal(inside.clip.frames, outside.clip.frames)


def saved(entry: Any, folder: Path, **options: Any) -> str:
    entry.build().save_pretrained(folder, **options)
    return str(folder)


def test_from_pretrained_in_the_refiner_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    entry = IMAGES["StableDiffusionXLImg2ImgPipeline (refiner)"]
    name = saved(entry, tmp_path)
    refiner = nc_refiner.CalibratedRefiner.from_pretrained(name, {"device": "cpu"}, iterations=1)
    assert type(refiner.adapter.pipe).__name__ == "StableDiffusionXLImg2ImgPipeline"
    assert refiner.adapter.pipe.unet.dtype == torch.float32
    direct = nc_refiner.CalibratedRefiner.from_pipe(entry.build(), iterations=1)
    options = {"seed": 1, "prompt": "a camel", **STEPS}
    loaded, built = refiner(clip(1), **options).clip.frames, direct(clip(1), **options).clip.frames
    assert torch.allclose(loaded, built, atol=1e-4)  # transformers may choose another attention for loaded weights
    half = loading.load_pipeline(name, dtype="bfloat16", device="cpu", local_files_only=True)
    assert half.unet.dtype == torch.bfloat16


def test_a_text_to_image_model_becomes_a_refiner(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from zoo import sd_parts

    StableDiffusionPipeline(**sd_parts()).save_pretrained(tmp_path)
    assert type(loading.load_pipeline(str(tmp_path), device="cpu")).__name__ == "StableDiffusionImg2ImgPipeline"


def test_a_text_to_video_model_becomes_a_refiner(tmp_path: Path) -> None:
    from diffusers import TextToVideoSDPipeline
    from zoo_video import zeroscope_parts

    TextToVideoSDPipeline(**zeroscope_parts()).save_pretrained(tmp_path)
    assert type(loading.load_pipeline(str(tmp_path), device="cpu")).__name__ == "VideoToVideoSDPipeline"


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    name = saved(IMAGES["StableDiffusionImg2ImgPipeline"], tmp_path, safe_serialization=False)
    with pytest.raises(OSError, match=r"safetensors"):
        loading.load_pipeline(name, device="cpu")
    with pytest.raises(ValueError, match="float32, float16, bfloat16"):
        loading.load_pipeline(name, device="cpu", dtype="half-ish")


def test_the_hint_without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'nc-refiner\[diffusers\]'"):
        nc_refiner.CalibratedRefiner.from_pretrained("some/model")


def test_defaults_for_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loading.default_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert loading.default_dtype(torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert loading.default_dtype(torch.device("cuda")) == torch.bfloat16
    assert loading.use_xformers(object(), torch.device("cpu")) is False


@pytest.mark.parametrize("name", ["SDXL refiner", "SD", "CogVideoX", "Wan"])
def test_conforms_to_the_contract(name: str) -> None:
    entry, frames, call = CASES[name]
    adapter = PipelineAdapter(entry.build(), **call)
    frames = min(frames, adapter.requirements.max_frames or frames)
    report = conformance.check(adapter, clip(frames).frames, num_inference_steps=5, strength=0.6, lossless=False)
    report.raise_for_failures()
    assert {"layout", "random state", "state restored", "identity", "fixed point"} <= set(report.results)
