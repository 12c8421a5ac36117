"""The ModelScope adapter and host over a small diffusion with the host's protocol; the real stack is in tests/hosts."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nc_refiner
from nc_refiner.adapters import create, registry
from nc_refiner.adapters.base import Requirements
from nc_refiner.adapters.modelscope import diagnosis
from nc_refiner.adapters.modelscope.adapter import ModelScopeAdapter
from nc_refiner.adapters.modelscope.attention import use_sdpa_where_needed
from nc_refiner.adapters.modelscope.loading import dtype_for
from nc_refiner.adapters.modelscope.stand_ins import missing_imports_stood_in
from nc_refiner.adapters.registry import host_of
from nc_refiner.adapters.runtime import drawing_from
from nc_refiner.calibration import NoiseCalibration, calibrate
from nc_refiner.holding import Hold
from nc_refiner.mask import latent_weights
from nc_refiner.refiner import CalibratedRefiner
from nc_refiner.refining import conformance
from nc_refiner.refining.fit import fit

from .small_modelscope import MemoryEfficientCrossAttention, VideoToVideoPipeline, _filled, waves

SOLVERS = {"fast": ("dpmpp_2m_sde", 30), "slow": ("heun", 50)}


@pytest.fixture(params=SOLVERS)
def mode(request):
    return request.param


@pytest.fixture
def pipe(mode):
    return VideoToVideoPipeline(mode)


@pytest.fixture
def fast():
    return VideoToVideoPipeline("fast")


@pytest.fixture
def frames():
    return waves(4)


def ran(pipe, frames):
    """The video, the evaluations it took and where the global generator stood afterwards."""
    before = pipe.model.generator.evaluations
    with torch.random.fork_rng():
        torch.manual_seed(9)
        told = pipe.model.clip_encoder("a dog" + pipe.model.positive_prompt)
        video = pipe.forward({"video_data": (frames - 0.5) / 0.5, "y": told})["video"]
        return video, pipe.model.generator.evaluations - before, torch.get_rng_state()


def test_recognised_by_name_without_an_import(fast):
    before = "modelscope" in sys.modules
    assert host_of(fast).name == "modelscope"
    assert ("modelscope" in sys.modules) == before
    assert "modelscope" in registry.available()


def test_wrapping_is_stock_where_it_should_be_and_costs_n_less_one_where_not(pipe, frames):
    stock, evaluations, state = ran(pipe, frames)
    assert float(stock.std()) > 0.01
    attributes = {name: id(value) for name, value in vars(pipe).items()}
    for options in ({"iterations": 0}, {"iterations": 3, "cutoff": 0.0}):
        video, count, after = ran(nc_refiner.wrap(pipe, **options), frames)
        assert torch.equal(video, stock) and count == evaluations and torch.equal(after, state)
    twin = nc_refiner.wrap(pipe, iterations=2)
    video, count, after = ran(twin, frames)
    assert not torch.equal(video, stock) and count == evaluations + 2 and torch.equal(after, state)
    assert len(twin.calibration_trace.content_loss) == 2
    assert nc_refiner.unwrap(twin) is pipe
    assert {name: id(value) for name, value in vars(pipe).items()} == attributes
    with nc_refiner.calibrated(pipe, iterations=2) as inside:
        assert inside is pipe and torch.equal(ran(pipe, frames)[0], video)
    assert {name: id(value) for name, value in vars(pipe).items()} == attributes
    assert torch.equal(ran(pipe, frames)[0], stock)


def test_wrapping_anew_changes_the_settings_only(fast, frames):
    once = ran(nc_refiner.wrap(fast, iterations=1), frames)[0]
    again = nc_refiner.wrap(nc_refiner.wrap(fast, iterations=3), iterations=1)
    assert torch.equal(ran(again, frames)[0], once) and nc_refiner.unwrap(again) is fast


def test_own_guidance_and_reuse_cost_less(fast, frames):
    _, stock, _ = ran(fast, frames)
    # A prediction under another guidance is not used again, unless it must be.
    assert ran(nc_refiner.wrap(fast, iterations=3, guidance_scale=1.0), frames)[1] == stock + 3
    assert ran(nc_refiner.wrap(fast, iterations=3, guidance_scale=1.0, reuse_prediction=True), frames)[1] == stock + 1
    reused, default, without = (
        ran(nc_refiner.wrap(fast, iterations=3, reuse_prediction=value), frames) for value in (True, None, False)
    )
    assert reused[1] == default[1] == stock + 2 * 2 and torch.equal(reused[0], default[0])
    assert without[1] == stock + 3 * 2 and not torch.equal(without[0], default[0])


@pytest.mark.parametrize("at", ["network_input", "x_t"])
def test_full_band_once_gives_the_networks_own_noise(fast, frames, at):
    """ε_θ by hand in float64 from the raw network outputs, at either place."""
    adapter, diffusion = ModelScopeAdapter(fast, calibrate_at=at), fast.model.diffusion
    condition, t = adapter.condition("a dog"), torch.tensor(599)
    level = adapter.noise_level(t)
    reference = adapter.encode(frames)
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(3))
    x_t = level.add_noise(reference, noise)
    config = NoiseCalibration(iterations=1)
    done = calibrate(x_t, reference, level, lambda x: adapter.predict_x0(x, t, condition), config)
    alpha, sigma = diffusion.alphas[599].double(), diffusion.sigmas[599].double()
    point = x_t.double() * (sigma if at == "network_input" else 1)
    with torch.no_grad():
        text, without = (fast.model.generator(point.float(), t=t[None], **told).double() for told in condition)
    guided = without + 7.5 * (text - without)
    x0 = alpha * point - sigma * guided * (0.2 * text.std() / guided.std() + 0.8)
    epsilon = (x_t.double() - alpha * x0) / sigma
    found = (done.x_t.double() - alpha * reference.double()) / sigma
    assert float((found - epsilon).norm() / epsilon.norm()) < 1e-5


@pytest.mark.parametrize("iterations", [0, 2])
def test_adapter_equals_the_wrapped_pipeline(pipe, mode, frames, iterations):
    video, _, _ = ran(nc_refiner.wrap(pipe, iterations=iterations), frames)
    adapter, generator = ModelScopeAdapter(pipe), torch.Generator().manual_seed(9)
    assert adapter.solver == SOLVERS[mode][0] and adapter.requirements.default_steps == SOLVERS[mode][1]
    reference = adapter.encode(frames, generator)
    torch.randint(599, 600, (1,), generator=generator)
    noise = torch.empty_like(reference).normal_(generator=generator)
    timesteps, condition = adapter.timesteps(adapter.requirements.default_steps, 0.6), adapter.condition("a dog")
    level = adapter.noise_level(timesteps.first)
    done = calibrate(
        level.add_noise(reference, noise),
        reference,
        level,
        lambda x: adapter.predict_x0(x, timesteps.first, condition),
        NoiseCalibration(iterations=iterations, reuse_prediction=True),
    )
    ticks: list[int] = []
    latents = adapter.denoise(
        done.x_t, timesteps, condition, generator=generator, first_x0=done.x0, on_step=lambda: ticks.append(1)
    )
    wanted = (video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1)
    assert torch.equal(adapter.decode(latents), wanted)
    assert len(ticks) == len(timesteps) == adapter.requirements.default_steps


BEYOND = {"objective": "colour_safe", "cutoff_time": 0.5, "hold": 0.5}


def test_masks_in_the_wrapped_pipeline(pipe, frames):
    plain, _, state = ran(pipe, frames)
    strict, _, _ = ran(nc_refiner.wrap(pipe, iterations=2), frames)
    ones, more, _ = ran(nc_refiner.wrap(pipe, iterations=2, mask=torch.ones(2, 2)), frames)
    zeros, fewer, after = ran(nc_refiner.wrap(pipe, iterations=2, mask=torch.zeros(2, 2)), frames)
    assert torch.equal(ones, strict) and torch.equal(zeros, plain) and torch.equal(state, after)
    assert more - fewer == 2
    half, _, _ = ran(nc_refiner.wrap(pipe, iterations=2, mask=torch.tensor([[1.0, 0.0]])), frames)
    assert not torch.equal(half, strict) and not torch.equal(half, plain)
    with pytest.raises(ValueError, match="which this host does not show"):
        ran(nc_refiner.wrap(pipe, iterations=2, mask=lambda shown: shown.mean(dim=1)), frames)


@pytest.mark.parametrize("more", [{}, {"reuse_prediction": False}, {"mask": torch.eye(4), "cutoff_outside": 0.5}])
def test_hold_in_the_wrapped_pipeline_is_the_adapters(pipe, frames, more):
    config = NoiseCalibration(iterations=1, **BEYOND, **more)
    video, held, state = ran(nc_refiner.wrap(pipe, config), frames)
    free, made, after = ran(nc_refiner.wrap(pipe, replace(config, hold=0.0)), frames)
    assert held == made and torch.equal(state, after) and not torch.equal(video, free)
    adapter, generator = ModelScopeAdapter(pipe), torch.Generator().manual_seed(9)
    reference = adapter.encode(frames, generator)
    torch.randint(599, 600, (1,), generator=generator)
    noise = torch.empty_like(reference).normal_(generator=generator)
    timesteps, condition = adapter.timesteps(adapter.requirements.default_steps, 0.6), adapter.condition("a dog")
    level, weights = adapter.noise_level(timesteps.first), latent_weights(config.mask, reference)
    done = calibrate(
        level.add_noise(reference, noise),
        reference,
        level,
        lambda x: adapter.predict_x0(x, timesteps.first, condition),
        config.settled(True),
        weights,
    )
    hold = Hold.of(reference, level, config, weights)
    latents = adapter.denoise(done.x_t, timesteps, condition, generator=generator, first_x0=done.x0, hold=hold)
    assert torch.equal(adapter.decode(latents), (video[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1))


def test_conformance(pipe, frames):
    conformance.check(ModelScopeAdapter(pipe), frames, num_inference_steps=4, lossless=False).raise_for_failures()
    conformance.check(ModelScopeAdapter(pipe), num_inference_steps=4, lossless=False).raise_for_failures()


def test_any_clip_is_fitted_and_undone(fast, global_rng_untouched):
    clip = nc_refiner.VideoClip(torch.rand((5, 3, 100, 70), generator=torch.Generator().manual_seed(2)), fps=12.0)
    refiner = CalibratedRefiner.from_name("modelscope", {"pipe": fast}, iterations=1)
    options = {"prompt": "a dog", "strength": 0.3, "num_inference_steps": 2, "seed": 3, "window": 3, "overlap": 1}
    result = refiner(clip, **options)
    assert result.clip.frames.shape == clip.frames.shape and result.clip.fps == 12.0
    assert result.receipt["evaluations"] == {"calibration": 4, "denoising": 4}
    assert "padded by 58 columns and 44 rows to fit the model, cut off again" in result.receipt["degradations"]
    assert result.receipt["adapter"]["solver"] == "dpmpp_2m_sde"
    assert torch.equal(result.clip.frames, refiner(clip, **options).clip.frames)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64), st.data())
def test_fitting_meets_multiple_and_offset(height, width, rows, columns, data):
    offset = (data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1)))
    frames = torch.arange(height, dtype=torch.float32).view(1, 1, height, 1).expand(1, 3, height, width)
    fitted, how = fit(frames, Requirements(size_multiple=(rows, columns), size_offset=offset))
    assert fitted.shape[2] % rows == offset[0] and fitted.shape[3] % columns == offset[1]
    assert 0 <= fitted.shape[2] - height < rows and 0 <= fitted.shape[3] - width < columns
    assert torch.equal(how.undo(fitted), frames)


@pytest.mark.parametrize("shape", [(1, 80, 64), (4, 64, 64), (4, 80, 80), (4, 16, 64)])
def test_illegal_clips_are_refused_in_words(fast, shape):
    with pytest.raises(ValueError, match=r"80, 144, 208, … \(64·n \+ 16\)"):
        ModelScopeAdapter(fast).encode(torch.rand(shape[0], 3, *shape[1:]))


@pytest.mark.parametrize(
    ("steps", "strength", "words"),
    [(30, 0.0, r"\(0, 1\]"), (30, 1.0, "0.999"), (0, 0.6, "1 to 599"), (600, 0.6, "1 to 599")],
)
def test_schedules_the_solver_cannot_run_are_refused(fast, steps, strength, words):
    with pytest.raises(ValueError, match=words):
        ModelScopeAdapter(fast).timesteps(steps, strength)


def test_starts_convert_both_ways(fast):
    adapter = ModelScopeAdapter(fast)
    for start in (1, 38, 599, 998):
        assert adapter.timesteps(1, adapter.strength_at(start)).first == start
    with pytest.raises(ValueError, match="1…998"):
        adapter.strength_at(999)


def test_foreign_latents_and_other_starts_are_refused(fast):
    diffusion = nc_refiner.wrap(fast).model.diffusion
    latents = torch.zeros(1, 4, 2, 10, 8)
    with pytest.raises(RuntimeError, match="diffuse did not make"):
        diffusion.sample(latents, fast.model.generator, t_max=599)
    with pytest.raises(RuntimeError, match="starts at 400"):
        diffusion.sample(diffusion.diffuse(latents, torch.tensor([599])), fast.model.generator, t_max=400)


def test_unusable_pipelines_and_options_are_refused(fast):
    with pytest.raises(ValueError, match="network_input, x_t"):
        nc_refiner.wrap(fast, calibrate_at="x0")
    with pytest.raises(TypeError, match="did you mean 'calibrate_at'"):
        nc_refiner.wrap(fast, calibrated_at="x_t")
    with pytest.raises(ValueError, match="dpmpp_2m_sde, heun"):
        ModelScopeAdapter(fast, solver="euler")
    with pytest.raises(TypeError, match="give either `model`"):
        create("modelscope", pipe=fast, model="damo/Video-to-Video")
    with pytest.raises(ValueError, match="float32"):
        dtype_for(torch.device("cpu"), "float16")
    fast.model.generator.half()
    with pytest.raises(ValueError, match=r"generator\.float\(\)"):
        nc_refiner.wrap(fast)
    fast.model = SimpleNamespace(generator=fast.model.generator)
    with pytest.raises(ValueError, match=r"no diffusion, autoencoder.*damo/Video-to-Video"):
        nc_refiner.wrap(fast)


def test_writing_is_checked(fast, frames, tmp_path, monkeypatch):
    twin = nc_refiner.wrap(fast, iterations=0)
    told = {"video_data": frames, "y": fast.model.negative_y}
    monkeypatch.setenv("PATH", str(tmp_path))
    before = fast.model.generator.evaluations
    with pytest.raises(FileNotFoundError, match="ffmpeg is not on PATH"):
        twin._process_single(told)
    assert fast.model.generator.evaluations == before
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    with torch.random.fork_rng(), pytest.raises(RuntimeError, match="wrote no video"):
        twin._process_single(told, postprocess_params={"output_video": str(tmp_path / "out.mp4")})


def test_what_is_missing_or_too_new_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'nc_refiner\[modelscope\]'"):
        create("modelscope", model="damo/Video-to-Video")
    versions = {"open_clip_torch": "2.30.0", "torch": "2.13.0+cpu", "torchvision": "0.27.1"}
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: None if name == "cv2" else object())
    monkeypatch.setattr(diagnosis.metadata, "version", versions.__getitem__)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)
    found = "\n".join(diagnosis.problems(needs_ffmpeg=True))
    for words in ("opencv-python-headless", "open_clip_torch==2.24.0", "torchvision==0.28.*", "ffmpeg is not on PATH"):
        assert words in found


def test_sdpa_is_the_attention_xformers_would_compute():
    module = _filled(torch.nn.Sequential(MemoryEfficientCrossAttention()), 4)
    draw = torch.Generator().manual_seed(5)
    x, context = torch.randn((5, 7, 8), generator=draw), torch.randn((5, 3, 6), generator=draw)
    assert use_sdpa_where_needed(module) == 1
    with torch.no_grad():
        assert torch.allclose(module[0](x, context), module[0].expected(x, context), atol=1e-6)
        del module[0].max_bs  # as in image-to-video
        assert torch.allclose(module[0](x, context), module[0].expected(x, context), atol=1e-6)


def test_a_lent_generator_goes_on_and_global_ones_stay():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    own, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    with drawing_from(own):
        first = torch.randn(5)
        random.random(), np.random.rand()
    assert torch.equal(first, torch.randn(5, generator=same))
    assert torch.equal(torch.randn(5, generator=own), torch.randn(5, generator=same))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tobytes() == before[2]


def test_stand_ins_last_for_the_import_only():
    before = set(sys.modules)
    with missing_imports_stood_in():
        from fairscale.nn.checkpoint import checkpoint_wrapper

        assert checkpoint_wrapper(before) is before
    assert not {name for name in set(sys.modules) - before if name.startswith(("fairscale", "rotary", "xformers"))}
