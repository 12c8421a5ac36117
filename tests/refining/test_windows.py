"""Windows: every frame comes out once, noise follows the frame, seams are faded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nc_refiner.refining.windows import frame_noise, sliding


@given(count=st.integers(0, 40), window=st.integers(1, 12), data=st.data())
def test_identity_processing_gives_the_stream_back(count, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    frames = torch.rand((count, 3, 2, 2), generator=torch.Generator().manual_seed(count))
    starts: list[tuple[int, int]] = []

    def process(block: torch.Tensor, first: int) -> torch.Tensor:
        assert torch.equal(block, frames[first : first + len(block)])
        starts.append((first, len(block)))
        return block

    blocks = list(sliding(iter(frames), window, overlap, process))
    found = torch.cat(blocks) if blocks else frames[:0]
    assert found.shape == frames.shape
    assert torch.allclose(found, frames, atol=1e-6)
    assert all(length == min(window, count) for _, length in starts)


def test_neighbours_fade_into_each_other():
    frames = torch.zeros(10, 3, 1, 1)
    values = iter([0.0, 1.0])
    found = torch.cat(list(sliding(frames, 6, 2, lambda block, first: torch.full_like(block, next(values)))))
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1])


def test_noise_is_keyed_by_absolute_frame(global_rng_untouched):
    whole = frame_noise((1, 2, 9, 4, 4), seed=5, first_frame=0)
    assert torch.equal(frame_noise((1, 2, 4, 4, 4), 5, 3), whole[:, :, 3:7])
    assert not torch.equal(whole[:, :, 0], whole[:, :, 1])
    assert not torch.equal(frame_noise((1, 2, 1, 4, 4), 6, 0), whole[:, :, :1])
    big = frame_noise((1, 4, 8, 32, 32), 1, 0)
    assert abs(float(big.mean())) < 0.02 and abs(float(big.std()) - 1) < 0.02


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_windows_are_refused(window, overlap):
    with pytest.raises(ValueError, match="overlap < window"):
        list(sliding([], window, overlap, lambda block, first: block))
