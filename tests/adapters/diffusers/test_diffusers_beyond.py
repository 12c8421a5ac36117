"""Masks, the colour-safe objective, the low-pass in time and `hold` in calls of diffusers pipelines."""

from __future__ import annotations

from typing import Any

import pytest
import test_diffusers_schedulers as schedulers
import torch
from test_diffusers_pipelines import IN_LOOP, ZOO, marked, pipeline, run, stock
from watching import Seen, counted

import nc_refiner
from nc_refiner import holding
from nc_refiner.adapters.diffusers import core_layout, session
from nc_refiner.mask import Place, TensorMask

LEFT = torch.tensor([[1.0, 0.0]])
CANNOT_HOLD = ("DPMSolverSDEScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler")
CAN_HOLD = [name for name, (kind, _) in schedulers.VARIANTS.items() if kind not in CANNOT_HOLD]
ENDS_WITH_NOISE = ("DEISMultistepScheduler", "DPM 2M ε", "LMSDiscreteScheduler", "SA solver", "TCD")
"""Their last step does not land on the estimate alone."""


@pytest.mark.parametrize("name", marked(ZOO))
def test_a_mask_of_ones_is_none_and_one_of_zeros_is_sdedit(name: str) -> None:
    pipe = pipeline(name)
    expected = run(nc_refiner.wrap(pipe, iterations=1, mode="replay"), name)
    modes = ("in_loop", "replay") if name in IN_LOOP else ("replay",)
    for mode in modes:
        assert torch.equal(run(nc_refiner.wrap(pipe, iterations=1, mask=torch.ones(3, 7), mode=mode), name), expected)
        with counted(pipe) as calls:
            zeros = run(nc_refiner.wrap(pipe, iterations=1, mask=torch.zeros(3, 7), mode=mode), name)
            made = len(calls)
            calls.clear()
            assert torch.equal(zeros, run(pipe, name)) and made == len(calls)
    # What inpainting puts back after the step acts through the next prediction alone, so there must be one.
    half = run(nc_refiner.wrap(pipe, iterations=1, reuse_prediction=False, mask=LEFT, mode="replay"), name)
    assert not torch.equal(half, expected) and not torch.equal(half, stock(name))


@pytest.mark.parametrize("name", marked(IN_LOOP))
@pytest.mark.parametrize("reuse", [False, True], ids=["", "reuse"])
def test_all_of_it_in_loop_equals_replay_and_costs_nothing_more(name: str, reuse: bool) -> None:
    pipe = pipeline(name)
    options: dict[str, Any] = {
        "iterations": 2,
        "reuse_prediction": reuse,
        "mask": LEFT,
        "cutoff_outside": 0.5,
        "objective": "colour_safe",
        "cutoff_time": 0.5,
        "hold": 0.5,
    }
    results, counts = [], []
    for mode, more in (("in_loop", options), ("replay", options), ("in_loop", {**options, "hold": 0.0})):
        with counted(pipe) as calls:
            results.append(run(nc_refiner.wrap(pipe, mode=mode, **more), name))
            counts.append(len(calls))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert len(set(counts)) == 1


@pytest.mark.parametrize("name", CAN_HOLD)
def test_a_full_hold_without_fading_ends_at_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    references: list[torch.Tensor] = []
    original = session.Hold.of

    def of(reference: torch.Tensor, *rest: Any) -> Any:
        references.append(reference)
        return original(reference, *rest)

    monkeypatch.setattr(holding, "pull", lambda step, steps: 1.0)
    monkeypatch.setattr(session.Hold, "of", of)
    pipe = schedulers.with_scheduler(name)
    found = [
        schedulers.run(nc_refiner.wrap(pipe, iterations=1, hold=1.0, mode=mode), name) for mode in ("in_loop", "replay")
    ]
    assert torch.equal(*found)
    error = float((found[0] - references[0]).norm() / references[0].norm())
    assert error < (0.2 if name in ENDS_WITH_NOISE else 1e-4)


@pytest.mark.parametrize("name", CANNOT_HOLD)
def test_a_scheduler_that_cannot_hold_is_refused(name: str) -> None:
    pipe = schedulers.with_scheduler(name)
    with pytest.raises(ValueError, match="hold is not possible"):
        schedulers.run(nc_refiner.wrap(pipe, iterations=1, hold=0.5), name)


@pytest.mark.parametrize("name", ["FluxImg2ImgPipeline", "CogVideoXVideoToVideoPipeline", "VideoToVideoSDPipeline"])
def test_the_mask_lies_where_the_picture_does(name: str, seen: Seen) -> None:
    run(nc_refiner.wrap(pipeline(name), iterations=1, mask=LEFT, mode="in_loop"), name)
    start, end = seen.starts[-1][0], seen.ends[0]
    moved = (end - start).abs().flatten(0, -2).amax(dim=0)
    middle = len(moved) // 2
    assert bool((moved[:middle] > 0).all()) and not bool(moved[middle:].any())


def test_a_function_is_shown_the_frames_and_a_clip_needs_as_many() -> None:
    name = "CogVideoXVideoToVideoPipeline"
    pipe, seen = pipeline(name), []

    def where(frames: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(frames.shape))
        return frames.mean(dim=1) > 0.5

    found = run(nc_refiner.wrap(pipe, iterations=1, mask=where), name)
    assert torch.isfinite(found).all() and seen and seen[0][1] == 3
    with pytest.raises(ValueError, match="has 2 frames for"):
        run(nc_refiner.wrap(pipe, iterations=1, mask=torch.ones(2, 4, 4)), name)


@pytest.mark.parametrize("name", ["AnimateDiffVideoToVideoPipeline", "CogVideoXVideoToVideoPipeline"])
def test_where_frames_and_channels_are_as_many_the_pipeline_decides(name: str) -> None:
    layout = core_layout.core_layout(pipeline(name), torch.zeros(1, 4, 4, 2, 2), None)
    assert layout is core_layout._EXCHANGED
    wan = pipeline("WanVideoToVideoPipeline")
    assert core_layout.core_layout(wan, torch.zeros(1, 4, 4, 2, 2), None) is core_layout.AS_IT_IS


def test_frames_of_a_causal_video_vae() -> None:
    values = torch.arange(9.0)[:, None, None].expand(9, 2, 2) / 8
    found = TensorMask(values).weights(Place((3, 1, 1), 9, factor=4))
    assert torch.allclose(found.flatten() * 8, torch.tensor([0.0, 2.5, 6.5]))
