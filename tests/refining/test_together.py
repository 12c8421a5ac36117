"""Several runs over one encoding: the same pictures as one by one, one run's latents at a time."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch

from nc_refiner import NoiseCalibration, RefineSettings
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.refining.plan import RefinePlan
from nc_refiner.refining.resize import output_size, resized
from nc_refiner.refining.run import Refinement
from nc_refiner.refining.together import refine_together
from tests.small_embedded import small_weights

SETTINGS = RefineSettings(num_inference_steps=4, strength=0.5, seed=3)


class Watched(EmbeddedRefiner):
    """Counts encoded frames, and how many runs' latents are alive when a run starts to denoise."""

    def __init__(self) -> None:
        super().__init__(weights=small_weights())
        self.encoded = self.asked = 0
        self.alive: list[int] = []
        self._made: list[Any] = []

    def encode(self, frames, generator=None):
        self.encoded += len(frames)
        return super().encode(frames, generator)

    def timesteps(self, num_inference_steps, strength):
        self.asked += 1
        return super().timesteps(num_inference_steps, strength)

    def step(self, x_t, x0, timesteps, index, generator=None):
        if index == 0:
            gc.collect()
            self.alive.append(sum(made() is not None for made in self._made))
        moved = super().step(x_t, x0, timesteps, index, generator)
        if index + 1 == len(timesteps):
            self._made.append(weakref.ref(moved))
        return moved


def _runs(adapter, settings):
    return [Refinement(adapter, NoiseCalibration(iterations=n), settings) for n in (0, 1, 2)]


@pytest.mark.parametrize(
    "more", [{}, {"window": 5, "overlap": 2}, {"window": 5, "overlap": 2, "max_latents_gib": 0.0}, {"scale": 1.5}]
)
def test_together_is_one_by_one(more):
    adapter, settings = Watched(), replace(SETTINGS, **more)
    frames = torch.rand((9, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    blocks = list(refine_together(runs := _runs(adapter, settings), frames, 9))
    together, windows = [torch.cat(found) for found in zip(*blocks, strict=True)], len(runs[0].windows)
    assert adapter.alive == [0] * len(adapter.alive), "the latents of one run at a time"
    shared = adapter.encoded
    alone = [torch.cat(list(run.run(frames, 9))) for run in _runs(adapter, settings)]
    for one, other, run in zip(together, alone, runs, strict=True):
        assert torch.equal(one, other)
        assert len(run.windows) == windows and run.receipt()["seconds"]["encode"] > 0
    assert adapter.encoded == 4 * shared, "three runs, encoded once"


def test_runs_that_differ_in_more_are_refused():
    adapter = Watched()
    one = Refinement(adapter, NoiseCalibration(), SETTINGS)
    other = Refinement(adapter, NoiseCalibration(), replace(SETTINGS, seed=4))
    with pytest.raises(ValueError, match="same settings"):
        next(refine_together([one, other], torch.zeros(2, 3, 32, 32), 2))


def test_a_plan_asks_the_host_for_nothing():
    adapter = Watched()
    plan = RefinePlan(adapter, NoiseCalibration(iterations=2), replace(SETTINGS, window=4, overlap=1))
    assert adapter.asked == 0 and plan.strength == 0.5
    assert plan.steps_for(10) == 3 * (2 + 2)
    assert RefinePlan(adapter, NoiseCalibration(cutoff=0.0), SETTINGS).steps_for(4) == 2


def test_sizes():
    frames = torch.rand((2, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    assert resized(frames, SETTINGS) is frames
    assert output_size(replace(SETTINGS, scale=2.0), 32, 48) == (64, 96)
    large = resized(frames, replace(SETTINGS, size=(40, 56)))
    assert large.shape == (2, 3, 40, 56) and large.min() >= 0 and large.max() <= 1
    flat = torch.full((1, 3, 16, 16), 0.25)
    assert torch.allclose(resized(flat, replace(SETTINGS, scale=3.0)), torch.full((1, 3, 48, 48), 0.25))
    with pytest.raises(ValueError, match="size and scale"):
        replace(SETTINGS, size=(8, 8), scale=2.0)
