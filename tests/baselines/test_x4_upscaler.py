"""The ×4 upscaler through its real pipeline, tiny: what the rival gives is what the pipeline gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

pytest.importorskip("diffusers")

from nc_refiner import VideoClip
from nc_refiner.baselines import RestoringBaseline, create_restorer
from nc_refiner.baselines.x4_upscaler import X4Upscaler
from nc_refiner.experiment.offline.restoring import Restorers
from nc_refiner.sweeps import SweepClip, SweepPlan, run_plan

from ..adapters.diffusers.tiny_parts import upscale_pipeline
from ..evaluation.conftest import noisy, textured


@pytest.fixture(scope="module")
def pipe():
    return upscale_pipeline()


FEW = {"num_inference_steps": 2, "noise_level": 5}


def test_it_is_what_the_pipeline_gives(pipe):
    clip = VideoClip(torch.rand((3, 3, 16, 24), generator=torch.Generator().manual_seed(1)), 8, prompt="a camel")
    rival = RestoringBaseline(X4Upscaler(pipe=pipe, guidance_scale=3.0, **FEW))
    found = rival(clip, seed=7)
    direct = torch.cat(
        [
            pipe(
                prompt="a camel",
                image=frame[None],
                generator=torch.Generator().manual_seed(7),
                guidance_scale=3.0,
                output_type="pt",
                **FEW,
            ).images
            for frame in clip.frames
        ]
    )
    assert direct.shape == (3, 3, 64, 96)
    assert torch.allclose(found.clip.frames, interpolate(direct, size=(16, 24), mode="area"), atol=1e-5)
    assert float(found.clip.frames.std()) > 0.01
    assert not torch.equal(found.clip.frames, rival(clip, seed=8).clip.frames)
    assert torch.equal(found.clip.frames, rival(clip, seed=7).clip.frames)
    assert torch.allclose(rival(clip, seed=7, scale=4).clip.frames, direct, atol=1e-5)


def test_batches_and_the_prompt(pipe):
    clip = VideoClip(torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(2)), 8, prompt="a camel")
    one, three = (RestoringBaseline(X4Upscaler(pipe=pipe, batch=batch, **FEW))(clip) for batch in (1, 3))
    assert torch.allclose(one.clip.frames, three.clip.frames, atol=1e-4)
    other = RestoringBaseline(X4Upscaler(pipe=pipe, prompt="rain", negative_prompt="fog", batch=2, **FEW))(clip)
    assert not torch.allclose(one.clip.frames, other.clip.frames, atol=1e-4)


def test_odd_sizes(pipe):
    clip = VideoClip(torch.rand(1, 3, 17, 23), 8)
    assert RestoringBaseline(X4Upscaler(pipe=pipe, **FEW))(clip).clip.frames.shape == clip.frames.shape
    small = X4Upscaler(pipe=pipe, input_scale=0.25, **FEW)
    assert RestoringBaseline(small)(VideoClip(torch.rand(1, 3, 32, 64), 8)).clip.frames.shape == (1, 3, 32, 64)


def test_from_a_folder_in_a_sweep(pipe, embedded, tmp_path):
    pipe.save_pretrained(tmp_path / "model", safe_serialization=True)
    clips = [SweepClip(name, noisy(textured(2, 16, 24), 0.1, s), textured(2, 16, 24)) for s, name in enumerate("ab")]
    options = {"model": str(tmp_path / "model"), "device": "cpu", **FEW}
    plan = SweepPlan(
        iterations=(0, 1),
        strengths=(0.4,),
        num_inference_steps=6,
        metrics=("mse", "ssim"),
        restorers=[{"name": "x4_upscaler", "options": options}],
    )
    rows = [row for row in run_plan(embedded, clips, plan, tmp_path / "cells") if row["method"] == "x4_upscaler"]
    assert [row["clip"] for row in rows] == ["a", "b"] and all(row["psnr_to_original"] > 0 for row in rows)
    built = Restorers({"x4_upscaler": X4Upscaler(pipe=pipe, **FEW)})
    again = run_plan(embedded, clips, plan, tmp_path / "other", restorers=built)
    assert [row["mse"] for row in again if row["method"] == "x4_upscaler"] == [row["mse"] for row in rows]


def test_what_is_missing_is_told_in_one_line(pipe, tmp_path):
    with pytest.raises(OSError, match=r"the weights of .*nothing are not here .*hf download") as told:
        create_restorer("x4_upscaler", model=str(tmp_path / "nothing"), local_files_only=True)
    assert "\n" not in str(told.value)
    with pytest.raises(OSError, match=r"the weights of nobody/nothing are not here .*hf download") as told:
        create_restorer("x4_upscaler", model="nobody/nothing", local_files_only=True)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="batch is 0"):
        create_restorer("x4_upscaler", pipe=pipe, batch=0)
    with pytest.raises(ValueError, match="either `model`"):
        create_restorer("x4_upscaler", pipe=pipe, model="x")
