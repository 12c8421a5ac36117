"""The windows of one long clip on several actors: the bytes of the serial run, also when an actor is lost."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from nc_refiner import CalibratedRefiner, VideoClip
from nc_refiner.adapters.window_pool import WindowPool

pytest.importorskip("ray", reason="Ray is not installed; pip install 'nc_refiner[serve]'")
pytestmark = pytest.mark.slow

LONG = {"seed": 3, "strength": 0.5, "num_inference_steps": 4, "window": 4, "overlap": 2}


@pytest.fixture(scope="module")
def pool():
    with WindowPool("embedded", {"device": "cpu"}, actors=2) as made:
        yield made


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    return VideoClip(torch.rand(14, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_result_is_the_serial_one_bit_for_bit(pool, clip, embedded, iterations):
    steps: list[str] = []
    serial = CalibratedRefiner(embedded).with_calibration(iterations=iterations)(clip, **LONG)
    spread = CalibratedRefiner(pool).with_calibration(iterations=iterations)(clip, on_step=steps.append, **LONG)
    assert torch.equal(spread.clip.frames, serial.clip.frames)
    for part in ("content_loss", "evaluations", "windows", "adapter", "degradations"):
        assert spread.receipt[part] == serial.receipt[part], part
    assert len(serial.receipt["windows"]) == 6
    assert steps == ["calibrate"] * 6 * iterations + ["denoise"] * 12


def test_a_short_clip_is_refined_here(pool, embedded):
    short = VideoClip(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    given = {"seed": 3, "strength": 0.5, "num_inference_steps": 2}
    assert torch.equal(CalibratedRefiner(pool)(short, **given).clip.frames,
                       CalibratedRefiner(embedded)(short, **given).clip.frames)  # fmt: skip


def test_a_lost_actor_costs_nothing(pool, clip, embedded):
    import ray

    found = [ray.get(actor.process.remote()) for actor in pool._actors]
    assert len({*found, os.getpid()}) == 3, "the actors are processes of their own"
    killed: list[str] = []

    def kill_one(stage: str) -> None:
        if not killed:
            killed.append(stage)
            os.kill(found[0], signal.SIGKILL)

    spread = CalibratedRefiner(pool)(clip, on_step=kill_one, **LONG)
    assert torch.equal(spread.clip.frames, CalibratedRefiner(embedded)(clip, **LONG).clip.frames)
    assert killed and ray.get(pool._actors[0].process.remote()) != found[0]


def test_a_ray_that_was_joined_before_is_not_taken_for_another(pool):
    with pytest.raises(ValueError, match=r"joined the Ray at .* already, .* the one at 10\.9\.9\.9:6379"):
        WindowPool("embedded", {"device": "cpu"}, address="10.9.9.9:6379")


def test_what_cannot_be_spread_is_refused():
    with pytest.raises(ValueError, match="actors is 0"):
        WindowPool("embedded", actors=0)
