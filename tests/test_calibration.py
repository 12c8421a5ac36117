"""The method against an independent float64 evaluation of the published equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner import NoiseCalibration, NoiseLevel, calibrate, calibration_steps
from nc_refiner.frequency import box_mask
from nc_refiner.noise_level import predicted_epsilon, predicted_x0

from .published import by_noise_form, by_published_form

KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction")


def model_output(x: np.ndarray) -> np.ndarray:
    """A smooth nonlinear stand-in for a network: local, bounded, not symmetric in anything."""
    return 0.6 * np.tanh(x + 0.3 * np.roll(x, 1, axis=-1)) - 0.2 * np.roll(x, 1, axis=-2) + 0.1 * np.cos(x)


def level_of(kind: str, u: float) -> NoiseLevel:
    if kind == "flow_prediction":
        return NoiseLevel(1 - u, u)
    return NoiseLevel(math.cos(u * math.pi / 2), math.sin(u * math.pi / 2))


@given(
    kind=st.sampled_from(KINDS),
    u=st.floats(0.15, 0.85),
    cutoff=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    iterations=st.integers(0, 5),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    video=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_three_forms_agree(kind, u, cutoff, iterations, height, width, video, seed):
    level = level_of(kind, u)
    shape = (2, 3, 2, height, width) if video else (2, 3, height, width)
    rng = np.random.default_rng(seed)
    reference, noise = rng.standard_normal(shape), rng.standard_normal(shape)
    alpha, sigma = level.alpha, level.sigma

    def epsilon(x: np.ndarray) -> np.ndarray:
        m = model_output(x)
        return {
            "epsilon": m,
            "v_prediction": alpha * m + sigma * x,
            "sample": (x - alpha * m) / sigma,
            "flow_prediction": x + (1 - sigma) * m,
        }[kind]

    def predict(x: torch.Tensor) -> torch.Tensor:
        return predicted_x0(torch.from_numpy(model_output(x.numpy())), x, level, kind)

    x_r = torch.from_numpy(reference)
    x_t = level.add_noise(x_r, torch.from_numpy(noise))
    found = calibrate(x_t, x_r, level, predict, NoiseCalibration(iterations=iterations, cutoff=cutoff))
    ours = level.noise_in(found.x_t, x_r).numpy()
    published = by_published_form(reference, noise, alpha, sigma, epsilon, cutoff, iterations)
    other = by_noise_form(reference, noise, alpha, sigma, epsilon, cutoff, iterations)
    scale = max(1.0, float(np.abs(published).max()))
    assert np.abs(other - published).max() <= 1e-12 * scale * 50
    if iterations and found.trace.content_loss:
        assert np.abs(ours - published).max() <= 1e-12 * scale * 50
    else:
        assert found.x_t is x_t
        assert np.abs(published - noise).max() <= 1e-12 * scale * 50


@pytest.mark.parametrize("kind", KINDS)
def test_full_band_lands_on_the_models_epsilon(kind):
    generator = torch.Generator().manual_seed(3)
    level = level_of(kind, 0.6)
    x_r, noise, output = (torch.randn((1, 4, 3, 8, 6), generator=generator) for _ in range(3))
    x_t = level.add_noise(x_r, noise)
    epsilon = predicted_epsilon(output, x_t, level, kind)
    done = calibrate(x_t, x_r, level, lambda x: predicted_x0(output, x, level, kind), NoiseCalibration(1, 1.0))
    assert torch.allclose(level.noise_in(done.x_t, x_r), epsilon, atol=1e-6 * float(epsilon.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("config", [NoiseCalibration(0), NoiseCalibration(3, 0.0), NoiseCalibration(3, 0.05)])
def test_plain_sdedit_keeps_the_very_tensor(dtype, config):
    x_t, x_r = torch.randn(2, 1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)

    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("plain SDEdit must not ask for a prediction")

    assert calibrate(x_t, x_r, NoiseLevel(0.6, 0.8), never, config).x_t is x_t


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_follows_float32(dtype):
    generator = torch.Generator().manual_seed(5)
    x_t, x_r = torch.randn(2, 1, 4, 2, 12, 10, generator=generator)
    level, config = NoiseLevel(0.6, 0.8), NoiseCalibration(2, 0.5)
    wide = calibrate(x_t, x_r, level, lambda x: x * 0.7, config)
    half = calibrate(x_t.to(dtype), x_r.to(dtype), level, lambda x: x * 0.7, config)
    assert half.x_t.dtype == dtype
    assert torch.allclose(half.x_t.float(), wide.x_t, atol=0.05)


def test_trace_is_the_content_loss_before_each_update():
    generator = torch.Generator().manual_seed(6)
    x_t, x_r = torch.randn(2, 1, 3, 8, 8, generator=generator)
    done = calibrate(x_t, x_r, NoiseLevel(0.6, 0.8), lambda x: 0.5 * x, NoiseCalibration(2))
    first = float((0.5 * x_t - x_r).norm() / x_r.norm())
    second = float((0.5 * (x_t - 0.6 * (0.5 * x_t - x_r)) - x_r).norm() / x_r.norm())
    assert done.trace.content_loss == pytest.approx((first, second), rel=1e-5)


@pytest.mark.parametrize("cutoff", [0.5, 1.0])
def test_reused_prediction_has_the_references_low_band(cutoff):
    """Strictly inside the band: on the published box's open edge the mask is ½, so L is no projection there."""
    generator = torch.Generator().manual_seed(7)
    x_t, x_r = torch.randn(2, 1, 3, 8, 8, generator=generator)
    config = NoiseCalibration(2, cutoff, reuse_prediction=True)
    done = calibrate(x_t, x_r, NoiseLevel(0.6, 0.8), lambda x: 0.5 * x, config)
    assert done.x0 is not None
    inside = box_mask(8, 8, cutoff) == 1
    difference = torch.fft.rfft2(done.x0.double() - x_r.double()).abs()
    assert float(difference[..., inside].max()) < 1e-4 < float(torch.fft.rfft2(x_r).abs().mean())
    assert calibrate(x_t, x_r, NoiseLevel(0.6, 0.8), lambda x: x, NoiseCalibration(1)).x0 is None


def test_tolerance_stops_at_the_latents_it_measured():
    x_r = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(8))
    calls = []

    def predict(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x_r * (1 + 0.3 ** len(calls))

    done = calibrate(x_r.clone(), x_r, NoiseLevel(0.6, 0.8), predict, NoiseCalibration(10, tolerance=0.05))
    assert len(calls) == 3
    assert done.x_t is calls[-1]


def test_no_signal_warns_and_changes_nothing():
    x_t = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="lower strength"):
        done = calibrate(x_t, x_t, NoiseLevel(0.0, 1.0), lambda x: x, NoiseCalibration(2))
    assert done.x_t is x_t


def test_input_is_never_written_to():
    x_t, x_r = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    kept = x_t.clone()
    calibrate(x_t, x_r, NoiseLevel(0.6, 0.8), lambda x: 0.5 * x, NoiseCalibration(3, 0.5))
    assert torch.equal(x_t, kept)


def test_coroutine_can_be_driven_by_hand():
    x_t, x_r = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    steps = calibration_steps(x_t, x_r, NoiseLevel(0.6, 0.8), NoiseCalibration(1))
    assert next(steps) is x_t
    with pytest.raises(StopIteration) as stop:
        steps.send(0.5 * x_t)
    assert torch.allclose(stop.value.value.x_t, x_t - 0.6 * (0.5 * x_t - x_r))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("iterations", -1, "at least 0"),
        ("iterations", 1.5, "whole number"),
        ("iterations", True, "whole number"),
        ("cutoff", 1.5, r"\[0, 1\]"),
        ("cutoff", float("nan"), r"\[0, 1\]"),
        ("guidance_scale", -1.0, "at least 0"),
        ("guidance_scale", float("inf"), "at least 0"),
        ("tolerance", 0.0, "above 0"),
    ],
)
def test_config_is_range_checked(field, value, words):
    with pytest.raises(ValueError, match=words):
        NoiseCalibration(**{field: value})


def test_bad_tensors_are_refused():
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="must match"):
        calibrate(x, x[:, :2], NoiseLevel(0.6, 0.8), lambda y: y, NoiseCalibration())
    with pytest.raises(ValueError, match="not finite"):
        calibrate(x, x + 1, NoiseLevel(0.6, 0.8), lambda y: y * float("nan"), NoiseCalibration())
