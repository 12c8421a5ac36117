"""Prediction conversions: whatever a model is trained to return, ε and x₀ come out the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.noise_level import NoiseLevel, predicted_epsilon, predicted_x0


@given(kind=st.sampled_from(["epsilon", "v_prediction", "sample", "flow_prediction"]), u=st.floats(0.05, 0.95))
def test_perfect_predictions_give_back_noise_and_clean_latents(kind, u):
    x0, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    level = NoiseLevel(1 - u, u) if kind == "flow_prediction" else NoiseLevel(math.cos(u), math.sin(u))
    outputs = {
        "epsilon": noise,
        "v_prediction": level.alpha * noise - level.sigma * x0,
        "sample": x0,
        "flow_prediction": noise - x0,
    }
    x_t = level.add_noise(x0, noise)
    assert torch.allclose(predicted_x0(outputs[kind], x_t, level, kind), x0, atol=1e-10)
    assert torch.allclose(predicted_epsilon(outputs[kind], x_t, level, kind), noise, atol=1e-10)


def test_v_prediction_with_an_extra_scale_is_normalised_first():
    x0, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    level = NoiseLevel(3.0, 4.0)
    x_t = level.add_noise(x0, noise)
    v = 0.6 * noise - 0.8 * x0
    assert torch.allclose(predicted_x0(v, x_t, level, "v_prediction"), x0 * (0.6 * 0.6 + 0.8 * 0.8), atol=1e-12)


def test_noise_in_inverts_add_noise():
    x0, noise = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    level = NoiseLevel(0.3, 0.9)
    assert torch.allclose(level.noise_in(level.add_noise(x0, noise), x0), noise, atol=1e-12)


@pytest.mark.parametrize(("alpha", "sigma"), [(-0.1, 1), (float("nan"), 1), (1, float("inf"))])
def test_scales_are_checked(alpha, sigma):
    with pytest.raises(ValueError, match="at least 0"):
        NoiseLevel(alpha, sigma)


def test_undefined_cases_are_refused_in_words():
    x = torch.zeros(1, 2, 2)
    with pytest.raises(ValueError, match="alpha is 0"):
        predicted_x0(x, x, NoiseLevel(0, 1), "epsilon")
    with pytest.raises(ValueError, match="sigma is 0"):
        NoiseLevel(1, 0).noise_in(x, x)
    with pytest.raises(ValueError, match="allowed: epsilon, v_prediction"):
        predicted_x0(x, x, NoiseLevel(1, 1), "velocity")  # type: ignore[arg-type]
