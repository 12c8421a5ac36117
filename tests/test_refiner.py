"""`CalibratedRefiner` on the embedded adapter, in small: identity, effect, fitting, windows, receipts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nc_refiner import CalibratedRefiner, NoiseCalibration, RefineSettings, VideoClip
from nc_refiner.adapters.delegating import Delegating
from nc_refiner.calibration import calibrate
from nc_refiner.evaluation import mse
from nc_refiner.refining.plan import RefinePlan
from nc_refiner.refining.receipt import read_receipt, write_receipt
from nc_refiner.refining.windows import frame_noise

STEPS = {"strength": 0.4, "num_inference_steps": 10}


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    frames = [
        torch.stack([0.5 + 0.4 * torch.sin(9 * x + t / 3), 0.5 + 0.3 * torch.cos(7 * y), x * y]) for t in range(8)
    ]
    return VideoClip(torch.stack(frames).clamp(0, 1), fps=12)


@pytest.fixture(scope="module")
def refiner(small_embedded) -> CalibratedRefiner:
    return CalibratedRefiner(small_embedded)


def sdedit(adapter, clip, seed):
    """Plain SDEdit written out by hand."""
    timesteps = adapter.timesteps(STEPS["num_inference_steps"], STEPS["strength"])
    reference = adapter.encode(clip.frames)
    x_t = adapter.noise_level(timesteps.first).add_noise(reference, frame_noise(tuple(reference.shape), seed, 0))
    for index, timestep in enumerate(timesteps):
        x_t = adapter.step(x_t, adapter.predict_x0(x_t, timestep, None), timesteps, index)
    return adapter.decode(x_t)


@pytest.mark.parametrize(
    "plain", [{"iterations": 0}, {"iterations": 3, "cutoff": 0.0}, {"iterations": 2, "cutoff": 0.03}]
)
def test_without_a_band_it_is_plain_sdedit_bit_for_bit(refiner, clip, plain, global_rng_untouched):
    result = refiner.with_calibration(**plain)(clip, seed=3, **STEPS)
    assert torch.equal(result.clip.frames, sdedit(refiner.adapter, clip, 3))
    assert result.trace.content_loss == ()
    assert result.receipt["evaluations"] == {"calibration": 0, "denoising": 4}


def test_calibration_brings_the_output_closer(refiner, clip):
    errors = []
    for iterations in (0, 1, 2, 3):
        result = refiner.with_calibration(iterations=iterations)(clip, seed=3, **STEPS)
        errors.append(float(mse(clip.frames, result.clip.frames).mean()))
        # The last prediction serves the first step.
        assert result.receipt["evaluations"] == {"calibration": iterations, "denoising": 3 if iterations else 4}
        assert result.receipt["calibration"]["reuse_prediction"] is (iterations > 0)
    assert errors[0] > errors[1] > errors[2] > errors[3]
    losses = result.trace.content_loss
    assert list(losses) == sorted(losses, reverse=True) and len(losses) == 3


def test_the_last_prediction_is_used_again_unless_that_is_refused(refiner, clip):
    by_default, must = (
        refiner.with_calibration(iterations=2, reuse_prediction=value)(clip, seed=3, **STEPS) for value in (None, True)
    )
    assert by_default.receipt["evaluations"] == {"calibration": 2, "denoising": 3}
    assert torch.equal(by_default.clip.frames, must.clip.frames)
    without = refiner.with_calibration(iterations=2, reuse_prediction=False)(clip, seed=3, **STEPS)
    assert without.receipt["evaluations"] == {"calibration": 2, "denoising": 4}
    assert without.receipt["calibration"]["reuse_prediction"] is False
    adapter = refiner.adapter
    timesteps = adapter.timesteps(STEPS["num_inference_steps"], STEPS["strength"])
    reference, level = adapter.encode(clip.frames), adapter.noise_level(timesteps.first)
    x_t = level.add_noise(reference, frame_noise(tuple(reference.shape), 3, 0))
    config = NoiseCalibration(iterations=2, cutoff=refiner.calibration.cutoff, reuse_prediction=False)
    done = calibrate(x_t, reference, level, lambda latents: adapter.predict_x0(latents, timesteps.first, None), config)
    assert done.x0 is None
    denoised = adapter.denoise(done.x_t, timesteps, None)
    assert torch.equal(without.clip.frames, adapter.decode(denoised))


def test_a_host_that_makes_every_prediction_itself_reuses_none(refiner, clip):
    own = Delegating(refiner.adapter)
    own.can_reuse = False
    result = CalibratedRefiner(own, refiner.calibration)(clip, seed=3, **STEPS)
    without = refiner.with_calibration(reuse_prediction=False)(clip, seed=3, **STEPS)
    assert torch.equal(result.clip.frames, without.clip.frames)
    assert result.receipt["evaluations"] == {"calibration": 3, "denoising": 4}
    with pytest.raises(ValueError, match="makes every prediction itself"):
        CalibratedRefiner(own, NoiseCalibration(reuse_prediction=True))(clip, seed=3, **STEPS)


@pytest.mark.parametrize(
    ("own", "asked", "reused"), [(None, 3.0, True), (3.0, 3.0, True), (1.0, 3.0, False), (1.0, None, False)]
)
def test_only_a_prediction_under_the_same_guidance_is_used_again(refiner, own, asked, reused):
    adapter = Delegating(refiner.adapter)
    adapter.requirements = replace(adapter.requirements, guidance=True)
    plan = RefinePlan(adapter, NoiseCalibration(guidance_scale=own), RefineSettings(guidance_scale=asked))
    assert plan.calibration.reuse_prediction is reused
    unguided = RefinePlan(refiner.adapter, NoiseCalibration(guidance_scale=own), RefineSettings(guidance_scale=asked))
    assert unguided.calibration.reuse_prediction is True


def test_seed_generator_and_neither(refiner, clip):
    a = refiner(clip, seed=5, **STEPS)
    assert torch.equal(a.clip.frames, refiner(clip, seed=5, **STEPS).clip.frames)
    b = refiner(clip, generator=torch.Generator().manual_seed(1), **STEPS)
    assert torch.equal(b.clip.frames, refiner(clip, generator=torch.Generator().manual_seed(1), **STEPS).clip.frames)
    fresh = refiner(clip, **STEPS)
    assert torch.equal(fresh.clip.frames, refiner(clip, seed=fresh.receipt["settings"]["seed"], **STEPS).clip.frames)
    with pytest.raises(ValueError, match="not both"):
        refiner(clip, seed=1, generator=torch.Generator())


def test_any_size_is_fitted_and_undone(refiner):
    frames = torch.rand((2, 3, 37, 50), generator=torch.Generator().manual_seed(0))
    result = refiner(VideoClip(frames), seed=1, **STEPS)
    assert result.clip.frames.shape == frames.shape
    assert any("padded by 6 columns and 3 rows" in note for note in result.receipt["degradations"])


def test_long_clips_go_through_windows(refiner, clip):
    frames = torch.cat([clip.frames, clip.frames.flip(0)])[:13]
    result = refiner(VideoClip(frames), seed=1, window=6, overlap=2, **STEPS)
    assert len(result.clip) == 13
    assert [window["first"] for window in result.receipt["windows"]] == [0, 4, 7]
    assert (
        "refined in windows of 6 frames that share 2, calibrated as one clip and blended in latent space"
        in result.receipt["degradations"]
    )
    calls: list[str] = []
    refiner(VideoClip(frames), seed=1, window=6, overlap=2, on_step=calls.append, **STEPS)
    settings = RefineSettings(window=6, overlap=2, **STEPS)
    assert len(calls) == refiner.refinement(settings).steps_for(13) == 3 * 7


def test_receipt_is_json_and_repeats_the_run(refiner, clip, tmp_path):
    result = refiner(clip, seed=9, prompt="a cat", start_timestep=399, num_inference_steps=10)
    write_receipt(result.receipt, tmp_path / "r.json")
    receipt = read_receipt(tmp_path / "r.json")
    assert receipt == json.loads(json.dumps(result.receipt))
    assert "prompt ignored: embedded is unconditional" in receipt["degradations"]
    assert receipt["settings"]["strength"] == pytest.approx(0.4)
    assert receipt["content_loss"] == pytest.approx(list(result.trace.content_loss))
    again = CalibratedRefiner(refiner.adapter, NoiseCalibration(**receipt["calibration"]))
    settings = {key: value for key, value in receipt["settings"].items() if key != "seed"}
    repeated = again(clip, seed=receipt["settings"]["seed"], **settings)
    assert torch.equal(repeated.clip.frames, result.clip.frames)


def test_history_and_fps_travel_with_the_clip(refiner, clip):
    result = refiner(clip, seed=1, **STEPS)
    assert result.clip.fps == clip.fps
    assert "N=3, seed 1" in result.clip.history[-1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": 0.0}, r"\(0, 1\]"),
        ({"strength": 2.0}, r"\(0, 1\]"),
        ({"strength": 0.5, "start_timestep": 3}, "only one"),
        ({"start_timestep": 1000}, "0…999"),
        ({"start_timestep": -1}, "at least 0"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"guidance_scale": float("nan")}, "at least 0"),
        ({"window": 64}, "at most 32"),
        ({"window": 0}, "at least 1"),
        ({"overlap": -1}, "at least 0"),
    ],
)
def test_bad_settings_are_refused_in_words(refiner, clip, settings, words):
    with pytest.raises(ValueError, match=words):
        refiner(clip, seed=0, **settings)


def test_unknown_setting_is_refused(refiner, clip):
    with pytest.raises(TypeError, match="strenght"):
        refiner(clip, strenght=0.5)


@pytest.mark.parametrize(
    ("frames", "error", "words"),
    [
        (torch.full((2, 3, 8, 8), float("nan")), ValueError, "NaN"),
        (torch.full((2, 3, 8, 8), 2.0), ValueError, r"\[0, 1\]"),
        (torch.zeros(0, 3, 8, 8), ValueError, "no frame"),
        (torch.zeros(2, 4, 8, 8), ValueError, r"\(F, 3, H, W\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError, "divide uint8"),
    ],
)
def test_bad_frames_from_python_are_refused(frames, error, words):
    with pytest.raises(error, match=words):
        VideoClip(frames)


def test_not_a_receipt(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "y.json").write_text("nonsense")
    for name in ("x.json", "y.json", "absent.json"):
        with pytest.raises(ValueError, match="receipt"):
            read_receipt(tmp_path / name)
