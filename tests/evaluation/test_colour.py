"""Colour drift: known values, an independent CIEDE2000 from its paper's table, monotone behaviour, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.evaluation import clipped_fraction, clipped_shift, delta_e, saturation_shift

pytest.importorskip("skimage", reason="the evaluation extra is not installed")


def noise(seed: int = 0, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(seed))


def test_identical_clips_have_not_drifted():
    a = noise()
    for metric in (delta_e, saturation_shift, clipped_shift):
        assert metric(a, a).tolist() == [0, 0]
        assert metric(a, a).dtype == torch.float64


def test_delta_e_of_greys_is_the_paper_s_lightness_term():
    # Between greys CIEDE2000 is ΔL / S_L with S_L of the mean lightness; L* of sRGB greys by the CIE's own formula.
    def lightness(grey: float) -> float:
        linear = ((grey + 0.055) / 1.055) ** 2.4
        return 116 * linear ** (1 / 3) - 16

    low, high = lightness(0.5), lightness(0.6)
    middle = ((low + high) / 2 - 50) ** 2
    expected = (high - low) / (1 + 0.015 * middle / (20 + middle) ** 0.5)
    a = torch.full((1, 3, 33, 47), 0.5)
    assert delta_e(a, a + 0.1).item() == pytest.approx(expected, abs=2e-3)


def test_delta_e_leaves_detail_out():
    a = torch.full((1, 3, 48, 48), 0.5)
    checker = ((torch.arange(48)[:, None] + torch.arange(48)) % 2).float() - 0.5
    assert delta_e(a, a + 0.2 * checker).item() < 1e-3
    assert delta_e(a, a + 0.1).item() > 5


def test_a_cut_block_counts_what_it_holds():
    a = torch.full((1, 3, 17, 17), 0.5)
    assert delta_e(a, a + 0.1).item() == pytest.approx(delta_e(a[..., :16, :16], a[..., :16, :16] + 0.1).item())


@given(st.floats(0.02, 0.2), st.floats(0.25, 0.45))
def test_more_drift_is_a_larger_number(little, much):
    a = torch.full((1, 3, 16, 16), 0.5)
    tint = torch.tensor([1.0, 0.0, -1.0])[:, None, None]
    assert delta_e(a, a + little * tint).item() < delta_e(a, a + much * tint).item()
    assert 0 < saturation_shift(a, a + little * tint).item() < saturation_shift(a, a + much * tint).item()
    assert saturation_shift(a + much * tint, a).item() < 0


@given(st.floats(1.1, 2.0), st.floats(2.1, 4.0))
def test_more_contrast_clips_more(little, much):
    a = noise(3)

    def stretched(factor: float) -> torch.Tensor:
        return ((a - 0.5) * factor + 0.5).clamp(0, 1)

    assert 0 < clipped_shift(a, stretched(little)).mean() < clipped_shift(a, stretched(much)).mean() <= 1


def test_clipped_fraction_counts_pixels_not_channels():
    a = torch.full((1, 3, 10, 10), 0.5)
    a[0, 0, 0] = 1
    a[0, 1, 0] = 0
    a[0, 2, 1, :5] = 254.6 / 255
    a[0, 2, 2] = 254.0 / 255
    assert clipped_fraction(a).item() == pytest.approx(0.15)


def test_bad_clips_are_refused():
    a = noise()
    for metric in (delta_e, saturation_shift, clipped_shift):
        for other, words in (
            (a[:1], "align"),
            (a[:, :2], r"\(F, 3, H, W\)"),
            (a[:0], "at least one frame"),
            (a / 0, "NaN"),
        ):
            with pytest.raises(ValueError, match=words):
                metric(a, other)
    with pytest.raises(ValueError, match="NaN"):
        clipped_fraction(a / 0)


def test_saturation_is_colour_not_noise():
    generator = torch.Generator().manual_seed(4)
    clean = torch.nn.functional.interpolate(
        torch.rand((2, 3, 6, 8), generator=generator), size=(96, 128), mode="bicubic"
    )
    clean = clean.clamp(0.1, 0.9)
    noisy = (clean + 0.03 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    grey = clean.mean(dim=1, keepdim=True)
    boosted = (grey + 1.2 * (clean - grey)).clamp(0, 1)
    assert saturation_shift(clean, noisy).abs().max() < 0.002
    assert saturation_shift(clean, boosted).min() > 0.02
