"""Metrics against independent computations and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from nc_refiner.evaluation import FidelityMeter, mse, mse_low, psnr, spatial_frequency, ssim

from ..published import low_pass


def pair(seed: int = 0, height: int = 24, width: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    a = torch.rand((3, 3, height, width), generator=torch.Generator().manual_seed(seed))
    b = (a + 0.2 * torch.rand(a.shape, generator=torch.Generator().manual_seed(seed + 1)) - 0.1).clamp(0, 1)
    return a, b


def own_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. in float64, on the part of the picture the whole window fits into."""
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    x, y = (a * weights).sum(0), (b * weights).sum(0)

    def blur(z: np.ndarray) -> np.ndarray:
        z = gaussian_filter1d(gaussian_filter1d(z, 1.5, axis=0, radius=5), 1.5, axis=1, radius=5)
        return z[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, cxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def test_ssim_equals_an_independent_one():
    a, b = pair()
    expected = [own_ssim(x, y) for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-5)


def test_mse_low_filters_the_difference_as_published():
    a, b = pair(2, 17, 20)
    expected = (low_pass((a.double() - b.double()).numpy(), 0.5) ** 2).mean(axis=(1, 2, 3))
    assert mse_low(a, b).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert torch.allclose(mse_low(a, b, cutoff=1.0), mse(a, b))


def test_known_values():
    grey = torch.full((2, 3, 16, 16), 0.25)
    assert mse(grey, grey + 0.5).tolist() == pytest.approx([0.25, 0.25])
    assert psnr(grey, grey + 0.1).tolist() == pytest.approx([20, 20], abs=1e-4)
    assert math.isinf(psnr(grey, grey)[0])
    assert ssim(grey, grey).tolist() == pytest.approx([1, 1])
    assert spatial_frequency(grey).tolist() == [0, 0]
    stripes = (torch.arange(16) % 2).float().expand(1, 3, 16, 16)
    assert spatial_frequency(stripes).item() == pytest.approx(1)


@given(st.floats(0.01, 0.3), st.floats(0.31, 0.6))
def test_more_noise_is_further_away(little, much):
    a, _ = pair(5)
    noise = torch.rand(a.shape, generator=torch.Generator().manual_seed(9)) - 0.5
    assert mse(a, a + little * noise).mean() < mse(a, a + much * noise).mean()
    assert ssim(a, a + little * noise).mean() > ssim(a, a + much * noise).mean()


def test_meter_over_blocks_equals_the_whole():
    a, b = pair(7)
    meter = FidelityMeter()
    meter.add(a[:1], b[:1])
    meter.add(a[1:], b[1:])
    found = meter.result()
    assert found["mse"] == pytest.approx(float(mse(a, b).mean()))
    assert found["ssim"] == pytest.approx(float(ssim(a, b).mean()))
    assert found["spatial_frequency"] == pytest.approx(float(spatial_frequency(b).mean()))
    assert found["psnr"] == pytest.approx(-10 * math.log10(float(mse(a, b).mean())))


def test_small_frames_have_no_ssim_and_equal_clips_no_psnr():
    meter = FidelityMeter()
    meter.add(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    assert meter.result()["ssim"] is None and meter.result()["psnr"] is None


def test_bad_pairs_are_refused():
    a = torch.zeros(2, 3, 16, 16)
    for other, words in ((a[:1], "align"), (a[:, :2], r"\(F, 3, H, W\)"), (a / 0, "NaN")):
        with pytest.raises(ValueError, match=words):
            mse(a, other)
    with pytest.raises(ValueError, match="11×11"):
        ssim(a[..., :8], a[..., :8])
    with pytest.raises(ValueError, match="no frame"):
        FidelityMeter().result()
