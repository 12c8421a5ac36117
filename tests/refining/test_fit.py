"""Windows are enlarged to what an adapter takes, and cut back."""

from __future__ import annotations

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
