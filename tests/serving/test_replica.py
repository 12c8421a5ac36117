"""What a replica says of a clip, asked without Ray around it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.serving import arms
from nc_refiner.serving.arms import Replica
from nc_refiner.serving.worker import ArmSpec, Work

SETTINGS = {"strength": 0.5, "num_inference_steps": 4}


@pytest.fixture
def replica():
    return Replica(ArmSpec("embedded", {}, {"iterations": 1}, SETTINGS))


@pytest.fixture
def work(mp4) -> Work:
    return Work(mp4(), ".mp4", {}, 1, 100, 10_000)


def awaited(coroutine):
    """In a thread of its own: the tests' browser keeps a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def said(replica, work):
    async def listen():
        return [what async for what in replica.refine(work)]

    return awaited(listen())


def failing(monkeypatch, error):
    def raises(*_):
        raise error

    monkeypatch.setattr(EmbeddedRefiner, "encode", raises)


def test_steps_then_the_clip(replica, work):
    *steps, (kind, done) = said(replica, work)
    assert steps == [("start", 3), ("step", "calibrate"), ("step", "denoise"), ("step", "denoise")]
    assert kind == "done" and len(done.content_loss) == 1 and done.suffix == ".mp4"


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (MemoryError(), "memory", "out of memory"),
        (ValueError("strength is 7"), "input", "strength is 7"),
        (KeyError("x"), "raised", "KeyError: 'x'"),
    ],
)
def test_a_failure_is_told_by_its_kind(replica, work, monkeypatch, error, kind, told):
    failing(monkeypatch, error)
    last = said(replica, work)[-1]
    assert last[:2] == ("failed", kind) and told in last[2]


def test_a_call_that_nobody_waits_for_ends_at_its_next_step(replica, work, monkeypatch):
    calls = []
    real = EmbeddedRefiner.predict_x0

    def slow(self, *given, **named):
        calls.append(time.monotonic())
        time.sleep(0.1)
        return real(self, *given, **named)

    monkeypatch.setattr(EmbeddedRefiner, "predict_x0", slow)

    async def leave():
        stream = replica.refine(work)
        async for what in stream:
            if what[0] == "step":
                break
        await stream.aclose()

    awaited(leave())
    time.sleep(0.5)
    assert len(calls) < 3
    replica.check_health()
    assert said(replica, work)[-1][0] == "done"


def test_a_call_that_does_not_end_makes_the_replica_ill(replica, work, monkeypatch):
    monkeypatch.setattr(arms, "HUNG_SECONDS", 0.05)
    monkeypatch.setattr(EmbeddedRefiner, "encode", lambda *_: time.sleep(0.6))

    async def leave():
        stream = replica.refine(work)
        assert (await anext(stream))[0] == "start"
        await stream.aclose()
        await asyncio.sleep(0.2)
        with pytest.raises(RuntimeError, match="does not end"):
            replica.check_health()
        await asyncio.sleep(0.8)
        replica.check_health()

    awaited(leave())
