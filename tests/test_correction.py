"""What goes beyond the paper, against an independent float64 computation; and the acceptance of masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nc_refiner import CalibratedRefiner, NoiseCalibration, NoiseLevel, VideoClip, calibrate
from nc_refiner.assets import demo_clip
from nc_refiner.correction import Correction
from nc_refiner.frequency import TimeLowPass
from nc_refiner.holding import Hold, pull
from nc_refiner.mask import Place, TensorMask, as_mask
from nc_refiner.video import read_clip

from .published import low_pass

LEVEL = NoiseLevel(0.8, 0.6)


def estimate(x: np.ndarray) -> np.ndarray:
    """A smooth stand-in for a network."""
    return 0.6 * np.tanh(x + 0.3 * np.roll(x, 1, axis=-1)) - 0.2 * np.roll(x, 1, axis=-2)


def slow_in_time(d: np.ndarray, cutoff: float) -> np.ndarray:
    """Cosines of frequency k/F below the cutoff, by the even continuation and an FFT; axis 2 is time."""
    frames = d.shape[2]
    kept = max(1, math.ceil(frames * cutoff - 1e-9))
    both = np.concatenate([d, np.flip(d, axis=2)], axis=2)
    spectrum = np.fft.rfft(both, axis=2)
    spectrum[:, :, kept:] = 0
    return np.fft.irfft(spectrum, n=2 * frames, axis=2)[:, :, :frames]


@given(
    inside=st.sampled_from([0.3, 0.5, 1.0]),
    outside=st.sampled_from([None, 0.0, 0.4, 1.0]),
    time=st.sampled_from([None, 0.1, 0.5, 0.75, 1.0]),
    safe=st.booleans(),
    masked=st.booleans(),
    iterations=st.integers(1, 3),
    frames=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_the_iteration_is_the_formula(inside, outside, time, safe, masked, iterations, frames, seed):
    rng = np.random.default_rng(seed)
    shape = (2, 3, frames, 8, 10)
    reference, noise = rng.standard_normal(shape), rng.standard_normal(shape)
    weights = rng.random((1, 1, frames, 8, 10)) if masked else np.ones((1, 1, 1, 1, 1))
    if masked:
        weights[..., :2] = 0
    x = LEVEL.alpha * reference + LEVEL.sigma * noise
    start = x.copy()
    for number in range(1, iterations + 1):
        d = estimate(x) - reference
        d = d if time in (None, 1.0) or frames == 1 else slow_in_time(d, time)
        beyond = low_pass(d, outside) if outside else np.zeros_like(d)
        taken = weights * low_pass(d, inside) + (1 - weights) * beyond
        x = x - LEVEL.alpha * taken / (number**1.25 if safe else 1)
    config = NoiseCalibration(
        iterations=iterations,
        cutoff=inside,
        mask=np.ones((1, 1)) if masked else None,
        cutoff_outside=outside if masked else None,
        objective="colour_safe" if safe else "paper",
        cutoff_time=time,
    )
    done = calibrate(
        torch.from_numpy(start),
        torch.from_numpy(reference),
        LEVEL,
        lambda now: torch.from_numpy(estimate(now.numpy())),
        config,
        torch.from_numpy(weights) if masked else None,
    )
    assert np.allclose(done.x_t.numpy(), x, atol=1e-11)


@given(height=st.integers(1, 9), width=st.integers(1, 9), rows=st.integers(1, 5), columns=st.integers(1, 5),
       bottom=st.integers(0, 4), right=st.integers(0, 4), seed=st.integers(0, 2**31))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_masks_are_averaged_by_area(height, width, rows, columns, bottom, right, seed):
    """By brute force: each pixel of the padded clip is cut so finely that every cell holds whole pieces."""
    values = np.random.default_rng(seed).random((height, width))
    size = (6, 10)
    found = TensorMask(values).weights(
        Place((1, rows, columns), 1, size=size, padded=(size[0] + bottom, size[1] + right))
    )
    fine = []
    for cells, pixels, side, more in ((rows, height, size[0], bottom), (columns, width, size[1], right)):
        count = 2520 * cells
        places = (np.arange(count) + 0.5) / count * (side + more) * pixels / side
        index = np.minimum(places.astype(int), pixels - 1)
        fine.append(np.stack([np.bincount(part, minlength=pixels) / 2520 for part in index.reshape(cells, -1)]))
    assert np.allclose(found[0, 0, 0].numpy(), fine[0] @ values @ fine[1].T, atol=2e-3)


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("cutoff", [0.05, 0.5, 1.0])
def test_the_low_pass_in_time_is_a_projection_that_keeps_stills(frames, cutoff):
    x = torch.randn(2, 3, frames, 2, 4, dtype=torch.float64)
    filtered = TimeLowPass(frames, cutoff)
    assert torch.allclose(filtered(filtered(x)), filtered(x), atol=1e-12)
    assert torch.allclose(filtered(x).mean(dim=2), x.mean(dim=2), atol=1e-12)
    assert np.allclose(filtered(x).numpy(), slow_in_time(x.numpy(), cutoff), atol=1e-12)


def test_weights_of_ones_are_none_and_of_zeros_the_very_tensor():
    x, reference = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 3, 2, 8, 8)
    asked: list[int] = []

    def predict(now: torch.Tensor) -> torch.Tensor:
        asked.append(1)
        return torch.tanh(now)

    plain = calibrate(x, reference, LEVEL, predict, NoiseCalibration(cutoff=0.5))
    masked = NoiseCalibration(cutoff=0.5, mask=torch.ones(2, 2))
    ones = calibrate(x, reference, LEVEL, predict, masked, torch.ones(1, 1, 2, 8, 8))
    assert torch.equal(plain.x_t, ones.x_t) and plain.trace == ones.trace
    asked.clear()
    zeros = calibrate(x, reference, LEVEL, predict, masked, torch.zeros(1, 1, 2, 8, 8))
    assert zeros.x_t is x and not asked
    with pytest.raises(ValueError, match="this host does not know masks"):
        calibrate(x, reference, LEVEL, predict, masked)
    with pytest.raises(ValueError, match="do not fit latents"):
        calibrate(x, reference, LEVEL, predict, masked, torch.ones(1, 1, 2, 4, 4))


def test_reuse_keeps_the_noise_the_model_saw():
    x, reference = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 3, 2, 8, 8)
    config = NoiseCalibration(iterations=2, objective="colour_safe", reuse_prediction=True)
    asked: list[torch.Tensor] = []

    def predict(now: torch.Tensor) -> torch.Tensor:
        asked.append(now)
        return torch.tanh(now)

    done = calibrate(x, reference, LEVEL, predict, config)
    epsilon = LEVEL.noise_in(asked[-1], torch.tanh(asked[-1]))
    assert done.x0 is not None and torch.allclose(LEVEL.noise_in(done.x_t, done.x0), epsilon, atol=1e-5)


def test_the_first_step_is_the_papers_and_the_next_ones_shrink():
    x, reference = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 3, 2, 8, 8)
    paper, safe = ([NoiseCalibration(iterations=n, objective=o) for n in (1, 2)] for o in ("paper", "colour_safe"))
    one, two = (calibrate(x, reference, LEVEL, torch.tanh, config).x_t for config in paper)
    one_safe, two_safe = (calibrate(x, reference, LEVEL, torch.tanh, config).x_t for config in safe)
    assert torch.equal(one, one_safe)
    assert torch.allclose(two_safe - one, (two - one) / 2**1.25, atol=1e-6)


def test_a_hold_pulls_the_band_and_fades():
    reference, x0 = torch.randn(1, 3, 4, 8, 8), torch.randn(1, 3, 4, 8, 8)
    weights = torch.rand(1, 1, 4, 8, 8)
    config = NoiseCalibration(cutoff=0.5, hold=0.6, mask=torch.ones(2, 2))
    hold = Hold.of(reference, LEVEL, config, weights)
    band = Correction(config, x0.shape, weights)(x0 - reference)
    for step in range(5):
        wanted = x0 - 0.6 * (1 - step / 4) * band
        assert torch.allclose(hold(x0, step, 5), wanted, atol=1e-6)
    assert hold(x0, 4, 5) is x0 and pull(0, 1) == 0
    assert torch.allclose(hold.part(slice(1, 3))(x0[:, :, 1:3], 0, 5), hold(x0, 0, 5)[:, :, 1:3], atol=1e-6)
    for nothing in ({"hold": 0.0}, {"iterations": 0, "hold": 1.0}, {"cutoff": 0.0, "hold": 1.0}):
        assert Hold.of(reference, LEVEL, NoiseCalibration(**nothing)) is None
    assert Hold.of(reference, NoiseLevel(0.0, 1.0), NoiseCalibration(hold=1.0)) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cutoff_outside", 0.5, "no mask to be outside of"),
        ("objective", "other", "allowed: paper, colour_safe"),
        ("cutoff_time", 0, "above 0"),
        ("cutoff_time", 1.5, "at most 1"),
        ("hold", -0.1, r"\[0, 1\]"),
        ("hold", True, r"\[0, 1\]"),
        ("mask", torch.full((2, 2), 1.5), r"\[0, 1\]"),
        ("mask", torch.zeros(2, 3, 4, 5), r"\(H, W\)"),
        ("mask", torch.zeros(0, 4), r"\(H, W\)"),
        ("mask", torch.tensor([[float("nan")]]), r"\[0, 1\]"),
        ("mask", "no_such_file.png", "no such file"),
        ("mask", object(), "must be a tensor or an array"),
    ],
)
def test_options_are_checked(field, value, words):
    with pytest.raises(ValueError, match=words):
        NoiseCalibration(**{field: value})


def test_masks_are_compared_by_what_they_hold():
    one, other = NoiseCalibration(mask=torch.ones(2, 3)), NoiseCalibration(mask=np.ones((2, 3)))
    assert one == other and hash(one) == hash(other) and one != NoiseCalibration(mask=torch.zeros(2, 3))
    assert as_mask(one.mask) is one.mask and one != NoiseCalibration()
    assert one.described()["mask"]["shape"] == [1, 2, 3]


def test_inside_the_mask_the_error_is_half_of_that_outside():
    """Acceptance: N = 3 on a piece of a real clip, the right half free."""
    clip = VideoClip(read_clip(demo_clip()[0], max_frames=4).frames[:, :, 32:96, 48:144].contiguous())
    refiner = CalibratedRefiner.from_name(
        "embedded", {"device": "cpu"}, iterations=3, cutoff=1.0, mask=torch.tensor([[1.0, 0.0]])
    )
    errors = [[], []]
    for seed in (1, 2):
        found = refiner(clip, strength=0.6, num_inference_steps=12, seed=seed).clip.frames
        error = (found - clip.frames).square().mean(dim=(0, 1, 2))
        # A network sees a few pixels over an edge.
        errors[0].append(float(error[:44].mean()))
        errors[1].append(float(error[52:].mean()))
    inside, outside = (float(np.mean(side)) for side in errors)
    assert outside > 2 * inside, (inside, outside)
