"""Flicker and warping error: known values, real motion, monotone behaviour, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from nc_refiner.evaluation import flicker, motion_of, warping_error

pytest.importorskip("cv2", reason="the evaluation extra is not installed")

STEP = 3


def sliding(frames: int = 4, height: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    """A smooth random texture that moves `STEP` pixels to the left per frame."""
    plane = torch.rand((3, height, width + STEP * frames), generator=torch.Generator().manual_seed(seed)).numpy()
    soft = torch.from_numpy(gaussian_filter(plane, (0, 2, 2)))
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return torch.stack([soft[:, :, STEP * i : STEP * i + width] for i in range(frames)])


def grain(like: torch.Tensor, seed: int = 5) -> torch.Tensor:
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_flicker_of_known_clips():
    still = torch.full((3, 3, 8, 8), 0.5)
    assert flicker(still).tolist() == [0, 0]
    blinking = still + 0.1 * torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]
    assert flicker(blinking).tolist() == pytest.approx([0.1, 0.1])
    a, b = torch.rand((2, 3, 200, 200), generator=torch.Generator().manual_seed(1))
    # Two independent uniform variables differ by a third on average.
    assert flicker(torch.stack([a, b])).item() == pytest.approx(1 / 3, abs=5e-3)


def test_motion_is_found_and_compensated():
    clip = sliding()
    motion = motion_of(clip)
    inside = (slice(None), slice(16, -16), slice(16, -16))
    assert motion.flow[:, 0][inside].median().item() == pytest.approx(-STEP, abs=0.2)
    assert motion.flow[:, 1][inside].median().item() == pytest.approx(0, abs=0.2)
    assert motion.visible[inside].float().mean() > 0.95
    uncompensated = clip.diff(dim=0).square().mean(dim=(1, 2, 3))
    assert (warping_error(clip, clip) < uncompensated / 20).all()
    assert torch.equal(warping_error(clip, clip, motion), warping_error(clip, clip))


def test_what_leaves_the_frame_is_hidden():
    motion = motion_of(sliding())
    # The texture moves left: the leftmost columns of each frame are gone in the next one.
    assert not motion.visible[:, 20:-20, 0].any()


def test_brightness_that_jumps_is_an_error():
    clip = sliding(3) * 0.5 + 0.2
    jumping = clip + 0.1 * torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]
    extra = warping_error(clip, jumping) - warping_error(clip, clip)
    # A constant offset d between carried frames adds d² and a cross term that the motion's own error bounds.
    assert extra.tolist() == pytest.approx([0.01, 0.01], abs=2e-3)


@settings(max_examples=10)
@given(st.floats(0.01, 0.1), st.floats(0.15, 0.4))
def test_more_grain_is_less_steady_and_blur_is_steadier(little, much):
    clip = sliding(3)
    motion = motion_of(clip)
    few, many = clip + little * grain(clip), clip + much * grain(clip)
    assert warping_error(clip, few, motion).mean() < warping_error(clip, many, motion).mean()
    assert flicker(few).mean() < flicker(many).mean()
    blurred = torch.from_numpy(gaussian_filter(many.numpy(), (0, 0, 3, 3)))
    assert warping_error(clip, blurred, motion).mean() < warping_error(clip, many, motion).mean()


def test_a_cut_leaves_nothing_or_little_visible():
    clip = torch.stack([sliding(1)[0], sliding(1, seed=9)[0]])
    assert motion_of(clip).visible.float().mean() < 0.5
    motion = motion_of(sliding(2))
    motion.visible[:] = False
    assert warping_error(sliding(2), sliding(2), motion).isnan().all()


def test_bad_clips_are_refused():
    clip = sliding(2)
    with pytest.raises(ValueError, match="at least two"):
        flicker(clip[:1])
    with pytest.raises(ValueError, match="at least two"):
        warping_error(clip[:1], clip[:1])
    with pytest.raises(ValueError, match="16×16"):
        warping_error(clip[..., :8], clip[..., :8])
    with pytest.raises(ValueError, match="align"):
        warping_error(clip, clip[..., :48])
    for metric in (flicker, lambda frames: warping_error(clip, frames)):
        with pytest.raises(ValueError, match="NaN"):
            metric(clip / 0)
        with pytest.raises(ValueError, match="at least one frame"):
            metric(clip[:0])
