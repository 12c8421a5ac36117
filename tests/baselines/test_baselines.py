"""Each baseline against a loop of its own in NumPy, and on the real embedded model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.assets import demo_clip
from nc_refiner.baselines import BASELINES, BaselineRefiner, ilvr, invert, matched_sdedit, renoised
from nc_refiner.calibration import content_loss
from nc_refiner.video import read_clip

from ..evaluation.conftest import textured
from ..published import low_pass
from .conftest import TinyAdapter, setting_of


def levels(setting):
    return [(math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)) for t in setting.timesteps.values.tolist()]


@pytest.mark.parametrize("cutoff", [0.3, 0.5, 0.8])
def test_ilvr_is_the_published_loop(tiny_adapter, frames, cutoff):
    setting = setting_of(tiny_adapter, frames, 6, 0.67)
    reference, noise = setting.reference.numpy(), setting.noise.numpy()
    pairs = levels(setting)
    x = pairs[0][0] * reference + pairs[0][1] * noise
    for (alpha, sigma), (below_alpha, below_sigma) in zip(pairs, [*pairs[1:], (1.0, 0.0)], strict=True):
        x0 = np.tanh(x)
        x = below_alpha * x0 + below_sigma * (x - alpha * x0) / sigma
        wanted = below_alpha * reference + below_sigma * noise
        x = low_pass(wanted, cutoff) + x - low_pass(x, cutoff)
    found = ilvr(setting, cutoff)
    assert found.numpy() == pytest.approx(x, abs=1e-9)
    # Not 0: the box weighs its outermost frequencies ½.
    plain = setting.denoise(setting.x_t)
    assert content_loss(found, setting.reference, cutoff) < 0.3 * content_loss(plain, setting.reference, cutoff)


def test_ilvr_at_the_ends_of_the_band(tiny_adapter, frames):
    setting = setting_of(tiny_adapter, frames, 6, 0.67)
    assert torch.equal(ilvr(setting, 0.0), setting.denoise(setting.x_t))
    assert torch.equal(ilvr(setting, 1.0), setting.reference)


def test_inversion_is_the_ddim_loop_backwards(tiny_adapter, frames):
    setting = setting_of(tiny_adapter, frames, 8, 0.75)
    x, alpha, sigma = setting.reference.numpy(), 1.0, 0.0
    for above_alpha, above_sigma in reversed(levels(setting)):
        epsilon = (x - above_alpha * np.tanh(x)) / above_sigma
        x = above_alpha * (x - sigma * epsilon) / alpha + above_sigma * epsilon
        alpha, sigma = above_alpha, above_sigma
    assert invert(setting).numpy() == pytest.approx(x, abs=1e-9)


def test_finer_inversion_comes_nearer_to_the_reference(embedded):
    frames = read_clip(demo_clip()[0], max_frames=1).frames[..., 32:96, 64:128]
    errors = []
    for steps in (6, 18, 54):
        setting = setting_of(embedded, frames, steps, 0.34)
        errors.append(content_loss(setting.denoise(invert(setting)), setting.reference, 1.0))
    plain = setting_of(embedded, frames, 18, 0.34)
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.5 * content_loss(plain.denoise(plain.x_t), plain.reference, 1.0)


def test_renoising_is_its_loop(tiny_adapter, frames):
    setting = setting_of(tiny_adapter, frames, 8, 0.75)
    alpha, sigma = levels(setting)[0]
    seed = int(torch.randint(2**62, (1,), generator=setting.generator()))
    drawn = torch.Generator().manual_seed(seed)
    x = setting.x_t.numpy()
    assert torch.equal(renoised(setting, 0), setting.x_t)
    before = tiny_adapter.evaluations
    found = renoised(setting, 3)
    assert tiny_adapter.evaluations == before + 3
    for _ in range(3):
        x = alpha * np.tanh(x) + sigma * torch.randn(x.shape, generator=drawn).double().numpy()
    assert found.numpy() == pytest.approx(x, abs=1e-9)
    # Its draws are none of those that denoising makes from the setting's own generator.
    own = torch.randn(x.shape, generator=setting.generator()).double()
    assert not torch.equal(own, torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double())
    with pytest.raises(ValueError, match="repeats is -1"):
        renoised(setting, -1)


def test_renoising_goes_away_from_the_reference_where_calibration_comes_near(embedded):
    frames = read_clip(demo_clip()[0], max_frames=1).frames[..., 32:96, 64:128]
    setting = setting_of(embedded, frames, 18, 0.34)
    refiner = BaselineRefiner(embedded, "renoise", calibration=NoiseCalibration(3))
    plain = content_loss(setting.denoise(setting.x_t), setting.reference, 1.0)
    assert content_loss(setting.denoise(renoised(setting, 3)), setting.reference, 1.0) > plain
    result = refiner(VideoClip(frames), seed=5, strength=0.34, num_inference_steps=18)
    assert result.receipt["evaluations"] == {"denoising": len(setting.timesteps) + 3}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_match_is_the_best_of_all_candidates(tiny_adapter, frames, share):
    setting = setting_of(tiny_adapter, frames, 10, 0.5)
    # Every candidate, run one by one.
    losses = {}
    for part in range(1, 33):
        total = max(5, round(5 * 32 / (part * 0.5)))
        at = setting.at(setting.timesteps if part == 32 else tiny_adapter.timesteps(total, 5 / total))
        losses[at.timesteps.strength] = content_loss(at.denoise(at.x_t), setting.reference, 1.0)
    target = min(losses.values()) + share * (max(losses.values()) - min(losses.values()))
    found = matched_sdedit(setting, target)
    assert abs(found.content_loss - target) == min(abs(loss - target) for loss in losses.values())
    assert losses[found.strength] == found.content_loss
    assert len(found.tried) <= 6 and found.steps == 5


def test_a_loss_above_sdedits_own_gives_sdedit_itself(embedded):
    setting = setting_of(embedded, textured(1, 32, 32), 8, 0.5)
    found = matched_sdedit(setting, 1e9)
    assert torch.equal(found.latents, setting.denoise(setting.x_t)) and found.strength == 0.5


@pytest.mark.parametrize("method", BASELINES)
def test_every_baseline_refines_a_clip(embedded, method, global_rng_untouched):
    clip = VideoClip(textured(1, 36, 34))
    refiner = BaselineRefiner(embedded, method, calibration=NoiseCalibration(2))
    first, again = (refiner(clip, seed=3, strength=0.4, num_inference_steps=10) for _ in range(2))
    assert first.clip.frames.shape == clip.frames.shape
    assert torch.equal(first.clip.frames, again.clip.frames)
    assert torch.equal(first.clip.frames, clip.frames) == (method == "input")
    assert first.receipt["baseline"]["method"] == method and method in first.clip.history[-1]


def test_the_matched_rival_keeps_as_much_content(embedded):
    clip = VideoClip(textured(2, 32, 48))
    settings = {"seed": 1, "strength": 0.45, "num_inference_steps": 12}
    rival = BaselineRefiner(embedded, "matched_sdedit", calibration=NoiseCalibration(3, 1.0))(clip, **settings)
    (window,) = rival.receipt["windows"]
    assert window["content_loss"] == pytest.approx(window["target_content_loss"], rel=0.1)
    assert window["strength"] < 0.45
    calibrated = CalibratedRefiner(embedded, NoiseCalibration(3, 1.0))(clip, **settings)
    reference = embedded.encode(clip.frames)
    assert content_loss(embedded.encode(calibrated.clip.frames), reference, 1.0) == pytest.approx(
        window["target_content_loss"], rel=0.02
    )


def test_long_clips_go_through_windows(embedded):
    clip = VideoClip(textured(7, 32, 32))
    result = BaselineRefiner(embedded, "ilvr")(clip, seed=0, strength=0.3, num_inference_steps=7, window=4, overlap=1)
    assert [window["first"] for window in result.receipt["windows"]] == [0, 3]
    assert len(result.clip) == 7


def test_what_cannot_be_is_refused(embedded, frames):
    with pytest.raises(ValueError, match="unknown baseline 'ivlr'"):
        BaselineRefiner(embedded, "ivlr")
    with pytest.raises(ValueError, match="cutoff is 2"):
        BaselineRefiner(embedded, "ilvr", cutoff=2)
    own = TinyAdapter(whole_trajectory=True)
    with pytest.raises(ValueError, match="runs its own solver"):
        BaselineRefiner(own, "ilvr")
    for method in (ilvr, invert, renoised):
        with pytest.raises(ValueError, match="runs its own solver"):
            method(setting_of(own, frames, 4, 0.5))
