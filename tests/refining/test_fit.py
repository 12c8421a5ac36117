"""Windows are enlarged to what an adapter takes, and cut back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.adapters.base import Requirements
from nc_refiner.refining.fit import fit

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, st.integers(1, 3), st.integers(0, 15), st.integers(0, 6))
def test_offset_sizes_fit_and_come_back(height, width, count, top, left):
    frames = torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))
    needs = Requirements(min_frames=2, size_multiple=(16, 7), size_offset=(top, left))
    fitted, how = fit(frames, needs)
    assert fitted.shape[-2] % 16 == top and fitted.shape[-1] % 7 == left and len(fitted) >= 2
    assert 0 <= how.bottom < 16 and 0 <= how.right < 7
    assert torch.equal(fitted[:count, :, :height, :width], frames)
    assert torch.equal(how.undo(fitted), frames)


def test_modelscopes_geometry():
    needs = Requirements(size_multiple=(64, 64), size_offset=(16, 0))
    assert fit(torch.rand(1, 3, 720, 1280), needs)[1].notes() == []
    assert fit(torch.rand(1, 3, 320, 512), needs)[0].shape == (1, 3, 336, 512)


def test_least_and_greatest_sizes():
    frames = torch.rand((1, 3, 100, 80))
    fitted, how = fit(frames, Requirements(size_multiple=(64, 64), min_size=(192, 64)))
    assert fitted.shape[2:] == (192, 128) and torch.equal(how.undo(fitted), frames)
    one_size = Requirements(min_size=(128, 128), max_size=(128, 128))
    assert fit(frames, one_size)[0].shape[2:] == (128, 128)
    with pytest.raises(ValueError, match="80×100 and this refiner takes at most 64×64; scale it down"):
        fit(frames, Requirements(max_size=(64, 64)))
