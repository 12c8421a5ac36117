"""What people do with a wrapped pipeline beyond one quiet call."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from tiny_parts import sd_unet
from watching import counted
from zoo import IMAGES, Entry, generate
from zoo_video import VIDEOS

import nc_refiner
from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip

ENTRY = IMAGES["StableDiffusionImg2ImgPipeline"]
PAG = IMAGES["StableDiffusionPAGImg2ImgPipeline"]


@pytest.fixture
def pipe() -> Any:
    return ENTRY.build()


# What is given beside the pipeline


@pytest.mark.parametrize("wrong", [0, 3, {}, False, "3", {"iterations": 2}])
def test_a_second_argument_that_is_no_calibration_is_refused_at_once(pipe: Any, wrong: Any) -> None:
    for function in (nc_refiner.wrap, nc_refiner.calibrated):
        with pytest.raises(TypeError, match=r"takes a NoiseCalibration.*wrap\(pipe, iterations=3"):
            function(pipe, wrong)


def test_numbers_of_numpy_are_welcome_and_text_gets_the_range_error() -> None:
    assert NoiseCalibration(iterations=np.int64(2)) == NoiseCalibration(iterations=2)
    assert type(NoiseCalibration(iterations=np.int64(2)).iterations) is int
    assert NoiseCalibration(cutoff=np.float32(0.5)).cutoff == 0.5
    for options in ({"iterations": True}, {"iterations": "2"}, {"iterations": 2.0}):
        with pytest.raises(ValueError, match="whole number of at least 0"):
            NoiseCalibration(**options)
    for name, words in (("cutoff", r"\[0, 1\]"), ("guidance_scale", "at least 0"), ("tolerance", "above 0")):
        with pytest.raises(ValueError, match=words):
            NoiseCalibration(**{name: "0.5"})


# Twins that were changed since


def test_wrapping_again_keeps_what_was_changed_on_the_twin(pipe: Any) -> None:
    twin = nc_refiner.wrap(pipe, iterations=1, mode="replay")
    twin.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    twin.unet = sd_unet(seed=40)
    again = nc_refiner.wrap(twin, cutoff=0.5)
    assert type(again.scheduler) is diffusers.DPMSolverMultistepScheduler and again.scheduler is not twin.scheduler
    assert again.unet is twin.unet and nc_refiner.unwrap(again) is pipe
    other = ENTRY.build()
    other.scheduler, other.unet = twin.scheduler, twin.unet
    wanted = generate(nc_refiner.wrap(other, iterations=1, cutoff=0.5, mode="replay"), ENTRY)
    assert torch.equal(generate(again, ENTRY), wanted)
    from nc_refiner.adapters.diffusers.calling import state_of

    state = state_of(again)
    assert state is not None and state.mode == "replay" and state.config == NoiseCalibration(iterations=1, cutoff=0.5)


def test_wrapping_again_and_unwrapping_after_load_ip_adapter(pipe: Any) -> None:
    """`register_modules` on the twin, as `load_ip_adapter` calls it."""
    from tiny_parts import clip_text

    twin = nc_refiner.wrap(pipe, iterations=1)
    twin.register_modules(image_encoder=clip_text())
    again = nc_refiner.wrap(twin, iterations=2)
    assert again.image_encoder is twin.image_encoder is not None
    assert torch.equal(generate(again, ENTRY), generate(nc_refiner.wrap(pipe, iterations=2), ENTRY))
    assert nc_refiner.unwrap(again) is pipe and getattr(pipe, "image_encoder", None) is None
    generate(pipe, ENTRY)


def test_pag_layers_set_on_the_twin_are_kept() -> None:
    pipe = PAG.build()
    twin = nc_refiner.wrap(pipe, iterations=1)
    twin.set_pag_applied_layers(["down", "mid"])
    assert nc_refiner.wrap(twin, iterations=1).pag_applied_layers == ["down", "mid"]


def test_a_refiner_over_a_twin_uses_the_twins_scheduler(pipe: Any) -> None:
    twin = nc_refiner.wrap(pipe, iterations=3)
    twin.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    changed = ENTRY.build()
    changed.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    clip = VideoClip(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    found, wanted = (
        CalibratedRefiner.from_pipe(one, iterations=1)(clip, strength=0.5, num_inference_steps=4, seed=1)
        for one in (twin, changed)
    )
    assert found.receipt["adapter"]["scheduler"] == "DDIMScheduler"
    assert found.receipt["evaluations"] == wanted.receipt["evaluations"]
    assert torch.equal(found.clip.frames, wanted.clip.frames)


def test_twins_pickle_and_copy_with_their_settings(pipe: Any) -> None:
    import copy

    twin = nc_refiner.wrap(pipe, iterations=2, mode="replay")
    wanted = generate(twin, ENTRY)
    for revived in (pickle.loads(pickle.dumps(twin)), copy.deepcopy(twin), copy.copy(twin)):
        assert type(revived) is type(twin)
        assert torch.equal(generate(revived, ENTRY), wanted)
        assert torch.equal(generate(nc_refiner.unwrap(revived), ENTRY), generate(pipe, ENTRY))
    with nc_refiner.calibrated(pipe, iterations=1):
        stock = pickle.loads(pickle.dumps(pipe))
    assert type(stock) is type(pipe) and torch.equal(generate(stock, ENTRY), generate(pipe, ENTRY))


# Feature caches put on directly


def caches() -> dict[str, Any]:
    from diffusers.hooks import (
        FirstBlockCacheConfig,
        PyramidAttentionBroadcastConfig,
        apply_first_block_cache,
        apply_pyramid_attention_broadcast,
    )

    return {
        "first block": lambda pipe: apply_first_block_cache(pipe.transformer, FirstBlockCacheConfig(threshold=10.0)),
        "pyramid attention": lambda pipe: apply_pyramid_attention_broadcast(
            pipe.transformer,
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2,
                spatial_attention_timestep_skip_range=(-1, 1001),
                current_timestep_callback=lambda: 500,
            ),
        ),
    }


@pytest.mark.parametrize("name", ["first block", "pyramid attention"])
def test_caches_applied_directly_are_seen(name: str) -> None:
    entry = VIDEOS["CogVideoXVideoToVideoPipeline"]
    exact = nc_refiner.wrap(entry.build(), iterations=2)
    generate(exact, entry)
    pipe = entry.build()  # diffusers does not find hooks that are added by hand after a first call
    caches()[name](pipe)
    assert not getattr(pipe.transformer, "is_cache_enabled", False)
    cached = nc_refiner.wrap(pipe, iterations=2)
    with pytest.warns(UserWarning, match="feature cache is on in `transformer`"):
        generate(cached, entry)
    assert cached.calibration_trace == exact.calibration_trace


# Empty bands, early exits


@pytest.mark.parametrize("mode", ["in_loop", "replay", "auto"])
def test_an_empty_band_costs_nothing_and_leaves_no_attention_processors(mode: str) -> None:
    pipe = PAG.build()
    before = dict(pipe.unet.attn_processors)
    with counted(pipe) as calls:
        stock = generate(pipe, PAG)
    count = len(calls)
    shown: list[Any] = []
    wrapped = nc_refiner.wrap(pipe, iterations=2, cutoff=0.01, mode=mode)
    bar = wrapped.progress_bar
    wrapped.progress_bar = lambda *args, **kwargs: (shown.append(1), bar(*args, **kwargs))[1]
    with counted(pipe) as calls:
        assert torch.equal(generate(wrapped, PAG), stock)
    assert len(calls) == count and len(shown) == 1
    assert pipe.unet.attn_processors == before


@pytest.mark.parametrize("mode", ["in_loop", "replay"])
def test_an_error_inside_a_call_restores_attention_processors(mode: str) -> None:
    pipe = PAG.build()
    before = dict(pipe.unet.attn_processors)

    def failing(*_: Any) -> dict[str, Any]:
        raise KeyError("from the user's callback")

    with pytest.raises(KeyError):
        generate(nc_refiner.wrap(pipe, iterations=1, mode=mode), PAG, callback_on_step_end=failing)
    assert pipe.unet.attn_processors == before


# Progress


class Bars:
    """Every bar a pipeline shows: how far it came of how much."""

    def __init__(self, pipe: Any, monkeypatch: pytest.MonkeyPatch):
        self.shown: list[Any] = []
        stock = type(pipe).progress_bar
        pipe.set_progress_bar_config(file=io.StringIO())

        def watched(pipe: Any, iterable: Any = None, total: int | None = None) -> Any:
            bar = stock(pipe, iterable, total)
            self.shown.append(bar)
            return bar

        monkeypatch.setattr(diffusers.DiffusionPipeline, "progress_bar", watched)

    @property
    def told(self) -> list[tuple[int, int]]:
        return [(bar.n, bar.total) for bar in self.shown]


PROGRESS: dict[str, tuple[Entry, dict[str, Any]]] = {
    "Stable Diffusion": (ENTRY, {}),
    "AnimateDiff": (VIDEOS["AnimateDiffVideoToVideoPipeline"], {}),
    "LTXCondition": (VIDEOS["LTXConditionPipeline"], {}),
    "Wan": (VIDEOS["WanVideoToVideoPipeline"], {}),
    "LCM": (IMAGES["LatentConsistencyModelImg2ImgPipeline"], {}),
}


@pytest.mark.parametrize("mode", ["in_loop", "replay"])
@pytest.mark.parametrize("name", PROGRESS)
def test_one_bar_that_counts_predictions_and_steps(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, changed = PROGRESS[name]
    pipe = entry.build()
    bars = Bars(pipe, monkeypatch)
    generate(pipe, entry, **changed)
    ((done, total),) = bars.told
    bars.shown.clear()
    wrapped = nc_refiner.wrap(pipe, iterations=3, mode=mode if name != "LCM" else "replay")
    generate(wrapped, entry, **changed)
    assert done > 0 and bars.told == [(done + 2, total + 2)]  # the third prediction serves the first step


def test_heun_counts_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = ENTRY.build()
    pipe.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    bars = Bars(pipe, monkeypatch)
    generate(pipe, ENTRY)
    ((done, total),) = bars.told
    for mode in ("in_loop", "replay"):
        bars.shown.clear()
        generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), ENTRY)
        assert bars.told == [(done + 1, total + 1)]


def test_stopping_early_and_reuse_shorten_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = ENTRY.build()
    bars = Bars(pipe, monkeypatch)
    generate(pipe, ENTRY)
    ((done, total),) = bars.told
    bars.shown.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generate(nc_refiner.wrap(pipe, iterations=5, tolerance=1e6), ENTRY)
        for reuse in (True, None, False):
            generate(nc_refiner.wrap(pipe, iterations=2, reuse_prediction=reuse), ENTRY)
            generate(nc_refiner.wrap(pipe, iterations=2, reuse_prediction=reuse, mode="replay"), ENTRY)
    assert bars.told == [(done, total), *[(done + 1, total + 1)] * 4, *[(done + 2, total + 2)] * 2]


# Inputs and hosts that are not as they should be


@pytest.mark.parametrize("mode", ["in_loop", "replay", "auto"])
def test_nan_latents_are_called_nan(pipe: Any, mode: str) -> None:
    with torch.no_grad():
        pipe.vae.encoder.conv_in.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite before the first step"):
        generate(nc_refiner.wrap(pipe, iterations=1, mode=mode), ENTRY)


@pytest.mark.parametrize("mode", ["in_loop", "replay"])
def test_a_logger_in_place_of_step_and_add_noise(pipe: Any, mode: str) -> None:
    # Pipelines look at the arguments of a step; this scheduler has none of those they look for but the generator.
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    expected = generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), ENTRY)
    logged: list[str] = []
    wrapped = nc_refiner.wrap(pipe, iterations=2, mode=mode)
    for name in ("step", "add_noise"):
        method = getattr(wrapped.scheduler, name)

        def log(*args: Any, _method: Any = method, _name: str = name, **kwargs: Any) -> Any:
            logged.append(_name)
            return _method(*args, **kwargs)

        setattr(wrapped.scheduler, name, log)
    assert torch.equal(generate(wrapped, ENTRY), expected) and "step" in logged


def test_a_subclass_that_hands_its_arguments_on(pipe: Any) -> None:
    class Mine(type(pipe)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    expected = generate(nc_refiner.wrap(pipe, iterations=2), ENTRY)
    mine = Mine(**pipe.components)
    for mode in ("in_loop", "replay"):
        assert torch.equal(generate(nc_refiner.wrap(mine, iterations=2, mode=mode), ENTRY), expected)
    refined = CalibratedRefiner.from_pipe(mine, iterations=1)(
        VideoClip(torch.rand(1, 3, 32, 32)), strength=0.5, num_inference_steps=4, seed=0
    )
    assert refined.receipt["evaluations"]["calibration"] == 1


# Pipelines that are not SDEdit


@pytest.mark.parametrize("name", ["CogVideoXPipeline", "WanPipeline"])
def test_the_advice_for_text_to_video_works_when_followed(name: str) -> None:
    from zoo_video import cog_parts, wan_parts

    pipe = getattr(diffusers, name)(**(cog_parts() if name.startswith("Cog") else wan_parts()))
    with pytest.raises(nc_refiner.adapters.diffusers.errors.NotSDEdit, match="from_pipe") as refused:
        nc_refiner.wrap(pipe)
    advised = str(refused.value).rpartition("through ")[2]
    twin = eval(advised, {"diffusers": diffusers, "pipe": pipe})
    entry = VIDEOS[type(twin).__name__]
    twin.set_progress_bar_config(disable=True)
    assert torch.equal(generate(nc_refiner.wrap(twin, iterations=0), entry), generate(entry.build(), entry))


def test_the_table_lists_whatever_noises_an_input() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[3] / "docs" / "diffusers_pipelines.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    for name in ("LTX2Pipeline", "LTX2ConditionPipeline", "LTX2InContextPipeline", "FluxFillPipeline"):
        assert "tested" in rows[name]
    for name in ("LTX2ImageToVideoPipeline", "LTX2HDRPipeline", "LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline"):
        assert "refused" in rows[name] and "strength" not in rows[name]
    assert "upsampling_pipe" in rows["VisualClozePipeline"] and "StableDiffusionUpscalePipeline" in rows


# Gradients


@pytest.mark.parametrize("mode", ["in_loop", "replay", "adapter"])
def test_calibration_keeps_no_graph(pipe: Any, mode: str) -> None:
    pipe.unet.requires_grad_(True)
    saved: list[Any] = []
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(1), t)[1], lambda t: t):
        if mode == "adapter":
            clip = VideoClip(torch.rand(1, 3, 32, 32))
            made = CalibratedRefiner.from_pipe(pipe, iterations=2)(clip, strength=0.5, num_inference_steps=4, seed=0)
            found = made.clip.frames
        else:
            found = generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), ENTRY)
    assert not found.requires_grad and not saved
