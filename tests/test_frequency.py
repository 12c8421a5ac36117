"""The low-pass filter against the published FFT formulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.frequency import LowPass, box_mask

from .published import low_pass

sizes = st.integers(1, 17)
cutoffs = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))


@given(height=sizes, width=sizes, cutoff=cutoffs, seed=st.integers(0, 2**31))
def test_equals_the_published_filter(height, width, cutoff, seed):
    x = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    ours = LowPass(height, width, cutoff)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, low_pass(x, cutoff), atol=1e-12)


@given(height=sizes, width=sizes, cutoff=cutoffs)
def test_high_pass_is_the_rest_and_filter_is_linear(height, width, cutoff):
    a, b = torch.randn(2, 1, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keep = LowPass(height, width, cutoff)
    assert torch.allclose(keep(a) + 2 * keep(b), keep(a + 2 * b), atol=1e-12)


def test_mask_is_hermitian_and_half_on_the_open_edge():
    mask = box_mask(8, 8, 0.5)
    assert set(mask.unique().tolist()) == {0.0, 0.5, 1.0}
    assert mask[2, 0] == 0.5 and mask[6, 0] == 0.5 and mask[0, 0] == 1 and mask[3, 0] == 0
    spectrum = torch.fft.rfft2(torch.randn(8, 8, dtype=torch.float64)) * mask
    back = torch.fft.irfft2(spectrum, s=(8, 8))
    assert torch.allclose(torch.fft.rfft2(back), spectrum, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (1, 5)])
def test_full_band_is_the_very_tensor_for_every_size(height, width):
    x = torch.randn(2, height, width)
    assert LowPass(height, width, 1.0)(x) is x


def test_emptiness_is_about_the_band_not_the_number():
    assert LowPass(8, 8, 0.1).empty
    assert LowPass(8, 8, 0.0).empty
    assert not LowPass(32, 32, 0.1).empty
    assert LowPass(1, 32, 0.9).empty


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_transformed_in_float32(dtype):
    x = torch.randn(3, 9, 12).to(dtype)
    found = LowPass(9, 12, 0.5)(x)
    assert found.dtype == dtype
    assert torch.equal(found, LowPass(9, 12, 0.5)(x.float()).to(dtype))


@pytest.mark.parametrize("cutoff", [-0.1, 1.5, float("nan")])
def test_cutoff_is_checked(cutoff):
    with pytest.raises(ValueError, match="fraction of the Nyquist"):
        LowPass(8, 8, cutoff)


def test_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        LowPass(8, 8, 0.5)(torch.zeros(1, 8, 9))
