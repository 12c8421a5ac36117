"""A deployed refiner called from here: what hangs, dies, raises or cannot be built."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed; pip install 'nc_refiner[serve]'")

from nc_refiner.serving.arms import Cluster, TooSlow, WorkerLost
from nc_refiner.serving.config import Place
from nc_refiner.serving.worker import ArmSpec, Work

from .flaky import plugin

pytestmark = [pytest.mark.slow, pytest.mark.long]

SETTINGS = {"strength": 0.5, "num_inference_steps": 8}
TROUBLES = ("hang", "slow", "kill")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = plugin(tmp_path_factory.mktemp("plugin"))
    paths = (str(Path(__file__).resolve().parents[2]), str(folder), os.environ.get("PYTHONPATH", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        place = Place(replicas=1, max_replicas=1, cpus=0.5, gpus=None)
        made = Cluster(None, dict.fromkeys((*TROUBLES, "build"), place))
        yield made
        made.close()


@pytest.fixture(scope="module")
def arms(cluster):
    specs = {name: ArmSpec("troubled", {"trouble": name}, {"iterations": 0}, SETTINGS) for name in TROUBLES}
    return cluster.deploy("trouble", specs, attempts=2, seconds=60)


@pytest.fixture(scope="module")
def work(mp4) -> Work:
    return Work(mp4(), ".mp4", {}, 1, 100, 10_000)


def test_a_refiner_that_cannot_be_built_is_told_in_one_line(cluster):
    with pytest.raises(ValueError, match=r"build cannot be built: .*these weights are not for this model") as caught:
        cluster.deploy("broken", {"build": ArmSpec("troubled", {"trouble": "build"})}, 1, 60)
    assert "\n" not in str(caught.value)


def test_steps_are_told_while_it_runs_and_the_caller_can_end_it(arms, work):
    class Enough(Exception):
        pass

    totals, steps = [], []

    def on_step(stage):
        steps.append((stage, time.monotonic()))
        if len(steps) == 2:
            raise Enough

    with pytest.raises(Enough):
        arms["slow"](work, on_start=totals.append, on_step=on_step)
    assert totals == [4] and steps[1][1] - steps[0][1] > 0.1
    steps[:] = [("", 0.0)] * 5
    done = arms["slow"](work, on_step=lambda stage: steps.append((stage, 0.0)))
    assert len(steps) == 9 and b"ftyp" in done.clip[:16] and done.receipt["adapter"]["name"] == "troubled"


def test_a_call_that_hangs_is_given_up(arms, work):
    arm = arms["hang"]
    arm._seconds = 1.0
    started = time.monotonic()
    with pytest.raises(TooSlow, match="longer than 1 seconds"):
        arm(work)
    assert time.monotonic() - started < 20
    # A second one waits for the copy that hangs, and is given up as well.
    with pytest.raises(TooSlow):
        arm(work)


def test_a_clip_that_kills_every_worker_is_given_up(arms, work):
    with pytest.raises(WorkerLost, match="lost 2 times"):
        arms["kill"](work)


def test_what_a_refiner_raises_comes_back_as_what_it_is(arms, work):
    with pytest.raises(ValueError, match="strength is 7"):
        arms["slow"](Work(work.clip, ".mp4", {"strength": 7}, 1, 100, 10_000))
    with pytest.raises(ValueError, match="the clip") as caught:
        arms["slow"](Work(b"no clip", ".mp4", {}, 1, 100, 10_000))
    assert "/tmp" not in str(caught.value)


def test_side_by_side_calls_wait_for_their_turn(arms, work):
    found = []
    calls = [threading.Thread(target=lambda: found.append(arms["slow"](work).content_loss)) for _ in range(3)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(60)
    assert found == [()] * 3


def test_replicas_are_counted(cluster, arms):
    assert cluster.ready()["slow"] == 1


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("ray://127.0.0.1:10001", "HOST:6379"),
     ("127.0.0.1:x", "no Ray cluster answers")],
)  # fmt: skip
def test_no_cluster_at_an_address(address, told):
    with pytest.raises(ValueError, match=told):
        Cluster(address, {})
