"""Requests through `ABRefiner` and `ABPipeline`: identity, fallback, budgets, switches, shadow runs."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from nc_refiner import CalibratedRefiner
from nc_refiner.clip import VideoClip
from nc_refiner.experiment import ABPipeline, ABRefiner, Guardrails
from nc_refiner.experiment.store import open_store

from ..conftest import Cheap

ALL_NC = {"control": 1e-9, "nc": 1.0}
ALL_CONTROL = {"control": 1.0, "nc": 1e-9}
SETTINGS = {"strength": 0.2, "num_inference_steps": 10}


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def refiners(embedded):
    control = CalibratedRefiner(embedded).with_calibration(iterations=0)
    return {"control": control, "nc": control.with_calibration(iterations=2)}


@pytest.fixture
def small() -> VideoClip:
    return VideoClip(torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("weights", "arm"), [(ALL_CONTROL, "control"), (ALL_NC, "nc")])
def test_an_arm_is_bit_identical_to_its_refiner(refiners, small, weights, arm, global_rng_untouched):
    ab = ABRefiner(refiners, "e", weights)
    one, other = seeded(), seeded()
    mine, alone = ab(small, generator=one, unit="u", **SETTINGS), refiners[arm](small, generator=other, **SETTINGS)
    assert torch.equal(mine.clip.frames, alone.clip.frames) and mine.trace == alone.trace
    assert mine.clip.history == alone.clip.history
    assert torch.equal(one.get_state(), other.get_state()), "the caller's generator moves as without us"
    mine, alone = ab(small, seed=7, unit="u", **SETTINGS), refiners[arm](small, seed=7, **SETTINGS)
    assert torch.equal(mine.clip.frames, alone.clip.frames)


def test_fallback_is_bit_identical_to_the_control(refiners, small):
    def broken(clip, *, generator=None, **settings):
        torch.rand(100, generator=generator)
        raise RuntimeError("no")

    ab = ABRefiner({"control": refiners["control"], "nc": broken}, "e", ALL_NC)
    one, other = seeded(), seeded()
    mine, alone = ab(small, generator=one, **SETTINGS), refiners["control"](small, generator=other, **SETTINGS)
    assert torch.equal(mine.clip.frames, alone.clip.frames)
    assert torch.equal(one.get_state(), other.get_state())


def test_bad_settings_are_the_callers_error_and_not_the_arms(refiners, small):
    ab = ABRefiner(refiners, "e", ALL_NC, guardrails=Guardrails(min_calls=1, window=1, max_failure_rate=0))
    with pytest.raises(ValueError, match="strength is 2"):
        ab(small, strength=2)
    assert not ab.is_off("nc")


def test_the_callers_own_stop_is_not_swallowed(refiners, small):
    class Cancelled(Exception):
        pass

    def cancel(stage):
        raise Cancelled

    for rails in (None, Guardrails(seconds=60, deadline="step")):
        with pytest.raises(Cancelled):
            ABRefiner(refiners, "e", ALL_NC, guardrails=rails)(small, on_step=cancel, **SETTINGS)


@pytest.mark.parametrize(
    "output", [torch.tensor([1.0, float("nan")]), [{"x": float("inf")}], (torch.ones(1) / 0).numpy()]
)
def test_nan_falls_back(output):
    ab = ABPipeline({"control": lambda x: x, "nc": lambda x: output}, "e", ALL_NC)
    assert ab(3) == 3
    good = ABPipeline({"control": lambda x: x, "nc": lambda x: torch.ones(2)}, "e", ALL_NC)
    assert torch.equal(good(3), torch.ones(2))


def test_an_arm_past_its_deadline_is_left_and_stopped_at_its_next_step(clip):
    release, stopped = threading.Event(), threading.Event()

    def slow(clip, *, on_step=None, **settings):
        release.wait(30)
        try:
            on_step("denoise")
        except Exception:
            stopped.set()
            raise

    steps: list[str] = []
    ab = ABRefiner({"control": Cheap(), "nc": slow}, "e", ALL_NC, guardrails=Guardrails(seconds=0.05))
    assert ab(clip, on_step=steps.append).receipt["loss"] == 0.5
    left = threading.active_count()
    assert ab(clip, on_step=steps.append).receipt["loss"] == 0.5
    assert threading.active_count() == left, "an arm that is still running takes no second call"
    release.set()
    assert stopped.wait(30) and steps == []


def test_a_shared_adapter_is_stopped_at_its_steps_and_never_run_twice(refiners, small):
    with pytest.raises(ValueError, match="shares its adapter"):
        ABRefiner(refiners, "e", guardrails=Guardrails(seconds=1, deadline="thread"))
    with pytest.raises(ValueError, match="must not share"):
        ABRefiner(refiners, "e", mode="shadow")
    ab = ABRefiner(refiners, "e", ALL_NC, guardrails=Guardrails(seconds=1e-6))
    assert torch.equal(
        ab(small, seed=7, **SETTINGS).clip.frames, refiners["control"](small, seed=7, **SETTINGS).clip.frames
    )


def test_memory_budget(clip):
    def hungry(clip, *, on_step=None, **settings):
        held = torch.ones(64 * 2**20 // 4)
        on_step("denoise")
        return held

    small = Guardrails(memory_bytes=16 * 2**20)
    ab = ABRefiner({"control": Cheap(), "nc": hungry}, "e", ALL_NC, guardrails=small)
    assert ab(clip).receipt["loss"] == 0.5
    ab = ABRefiner({"control": Cheap(), "nc": Cheap(0.2)}, "e", ALL_NC, guardrails=small)
    assert ab(clip).receipt["loss"] == 0.2


def test_an_arm_that_fails_too_often_is_switched_off_and_can_come_back(clip):
    nc = Cheap(0.2, fails=lambda call: call <= 10)
    rails = Guardrails(window=10, min_calls=4, max_failure_rate=0.5)
    ab = ABRefiner({"control": Cheap(), "nc": nc}, "e", ALL_NC, guardrails=rails)
    assert all(ab(clip).receipt["loss"] == 0.5 for _ in range(20))
    assert nc.calls == 4 and ab.is_off("nc") and "4 of the last 4" in ab.router.switch.reason("nc")
    nc.calls = 10
    ab.resume(arm="nc")
    assert ab(clip).receipt["loss"] == 0.2


def test_kill_switch_by_method_file_and_store(clip, url, tmp_path):
    file = tmp_path / "off"
    options = {"store": url, "switch_file": file, "poll_seconds": 0.02}
    arms = {"control": Cheap(), "nc": Cheap(0.2)}

    def wait(ab, arm, off):
        ends = time.monotonic() + 20
        while ab.is_off(arm) != off and time.monotonic() < ends:
            time.sleep(0.01)
        return ab.is_off(arm) == off

    with ABRefiner(arms, "e", ALL_NC, **options) as one, ABRefiner(arms, "e", ALL_NC, **options) as two:
        assert one(clip).receipt["loss"] == 0.2
        one.stop("incident")
        assert one(clip).receipt["loss"] == 0.5
        assert wait(two, "nc", True) and two.router.switch.reason("nc") == "incident"
        two.resume()
        assert wait(one, "nc", False) and one(clip).receipt["loss"] == 0.2
        file.write_text("nc\n")
        assert wait(one, "nc", True) and not one.is_off("control")
        file.write_text("")
        assert wait(one, "control", True)
        file.unlink()
        assert wait(one, "nc", False)
    with ABRefiner(arms, "e", ALL_NC, **options) as later:
        assert not later.is_off("nc")


def test_shadow_runs_use_the_same_noise_and_only_leave_a_record(clip, url):
    seen: dict[str, torch.Tensor] = {}

    def arm(name):
        def call(clip, *, generator=None, **settings):
            seen[name] = torch.rand(4, generator=generator)
            return Cheap(0.5 if name == "control" else 0.2)(clip)

        return call

    ab = ABRefiner(
        {"control": arm("control"), "nc": arm("nc")},
        "e",
        store=url,
        mode="shadow",
        evaluate=lambda arguments, output: {"loss_again": output.receipt["loss"]},
    )
    assert ab(clip, generator=seeded(), unit="u").receipt["loss"] == 0.5
    assert ab.wait(60) and torch.equal(seen["control"], seen["nc"])
    assert ab.close()
    store = open_store(url)
    found = {(o.arm, o.metric): o for o in store.observations("e")}
    assert {key for key in found} == {
        (arm, metric) for arm in ("control", "nc") for metric in ("seconds", "error", "content_loss", "loss_again")
    }
    assert found["nc", "content_loss"].value == found["nc", "loss_again"].value == 0.2
    assert len({o.pair for o in found.values()}) == 1 and None not in {o.pair for o in found.values()}
    assert store.exposures("e") == []


def test_a_failing_shadow_run_or_full_queue_reaches_no_one(clip, tmp_path):
    release = threading.Event()

    def blocked(clip, **settings):
        release.wait(30)
        raise RuntimeError("no")

    path = tmp_path / "ab.db"
    ab = ABRefiner({"control": Cheap(), "nc": blocked}, "e", store=path, mode="shadow", queue=2)
    for i in range(10):
        assert ab(clip, unit=f"u{i}").receipt["loss"] == 0.5
    release.set()
    assert ab.close()
    observations = open_store(path).observations("e")
    shadowed = [o for o in observations if o.arm == "nc" and o.metric == "error"]
    assert 1 <= len(shadowed) <= 3 and all(o.value == 1 for o in shadowed)
    assert {o.pair for o in observations if o.arm == "control"} == {o.pair for o in shadowed}


def test_outcomes_are_the_assigned_arms_and_outsiders_have_none(clip, url):
    with ABRefiner({"control": Cheap(), "nc": Cheap()}, "e", ALL_NC, store=url) as ab:
        ab(clip, unit="u")
        assert ab.outcome("u", "rating", 4) and not ab.outcome("u", "rating", float("nan"))
    with ABRefiner({"control": Cheap(), "nc": Cheap()}, "out", store=url, ramp=0.0) as outside:
        outside(clip, unit="u")
        assert not outside.outcome("u", "rating", 4)
    store = open_store(url)
    assert [(o.arm, o.value) for o in store.observations("e") if o.metric == "rating"] == [("nc", 4.0)]
    assert store.observations("out") == [] and store.exposures("out") == []
    assert store.experiments() == ["e", "out"]


def test_an_experiment_with_one_arm_left_pauses(clip, url):
    with ABRefiner({"control": Cheap(), "nc": Cheap()}, "e", store=url) as ab:
        ab.stop(arm="nc")
        for i in range(20):
            ab(clip, unit=f"u{i}")
    store = open_store(url)
    assert store.exposures("e") == [] and store.observations("e") == []


def test_a_clip_with_a_seed_keeps_its_arm():
    ab = ABRefiner({"control": Cheap(0.5), "nc": Cheap(0.2)}, "e")
    clips = [VideoClip(torch.rand(1, 3, 4, 4), seed=i) for i in range(20)]
    first = [ab(one).receipt["loss"] for one in clips]
    assert first == [ab(one).receipt["loss"] for one in clips] and set(first) == {0.5, 0.2}


def test_every_arm_of_a_request_gets_one_seed(clip):
    control, nc = Cheap(), Cheap(0.2, fails=lambda call: True)
    ABRefiner({"control": control, "nc": nc}, "e", ALL_NC)(clip)
    assert control.seeds == nc.seeds != [None]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arms": {"control": Cheap()}}, "at least one other"),
        ({"weights": {"x": 1}}, "the arms are"),
        ({"mode": "sneaky"}, "live or shadow"),
        ({"guardrails": {"x": Guardrails()}}, "beside the control"),
        ({"poll_seconds": 0}, "above 0"),
        ({"store": "mysql://u@h/x"}, "not supported"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ABRefiner(**{"arms": {"control": Cheap(), "nc": Cheap()}, "experiment": "e", **options})


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error", [Unspeakable(), SystemExit(3), GeneratorExit()], ids=lambda error: type(error).__name__
)
def test_whatever_an_arm_raises_the_control_answers_and_the_breaker_counts(clip, error, tmp_path):
    def broken(clip, **settings):
        raise error

    rails = Guardrails(min_calls=3, window=3, max_failure_rate=0)
    with ABRefiner({"control": Cheap(), "nc": broken}, "e", ALL_NC, tmp_path / "ab.db", guardrails=rails) as ab:
        assert all(ab(clip, unit=f"u{i}").receipt["loss"] == 0.5 for i in range(5))
        assert ab.is_off("nc") and "3 of the last 3" in ab.router.switch.reason("nc")
    assert len([o for o in open_store(tmp_path / "ab.db").observations("e") if o.metric == "error"]) == 3
    shadow = ABRefiner({"control": Cheap(), "nc": broken}, "e", mode="shadow", store=tmp_path / "shadow.db")
    assert shadow(clip).receipt["loss"] == 0.5 and shadow(clip).receipt["loss"] == 0.5
    assert shadow.close()
    failed = [
        o.value for o in open_store(tmp_path / "shadow.db").observations("e") if (o.arm, o.metric) == ("nc", "error")
    ]
    assert failed == [1.0, 1.0]


def test_ctrl_c_in_an_arm_is_the_users(clip):
    def interrupted(clip, **settings):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ABRefiner({"control": Cheap(), "nc": interrupted}, "e", ALL_NC)(clip)


def test_evaluations_that_do_not_fit_are_counted_and_told(clip, tmp_path, caplog):
    release = threading.Event()

    def evaluate(arguments, output):
        release.wait(30)
        return {"mine": 1.0}

    ab = ABRefiner({"control": Cheap(), "nc": Cheap()}, "e", store=tmp_path / "ab.db", evaluate=evaluate, queue=4)
    for i in range(50):
        ab(clip, unit=f"u{i}")
    release.set()
    assert ab.close()
    found = [o for o in open_store(tmp_path / "ab.db").observations("e") if o.metric == "mine"]
    assert len(found) + ab.router.evaluations_dropped == 50 and 4 <= len(found) <= 6
    assert caplog.text.count("evaluations are dropped") == 1


def test_a_bad_seed_is_its_callers_error_and_holds_up_nothing(refiners, small, url):
    """It is recorded without the seed; everything after it as ever."""
    with ABRefiner(refiners, "e", store=url) as ab:
        for seed in (2**63, -1, 2**64):
            with pytest.raises(ValueError, match="seed"):
                ab(small, seed=seed, unit="x", **SETTINGS)
        ab(small, seed=5, unit="y", **SETTINGS)
        assert ab.wait(60) and ab.router._recorder.counts().stored == 4
    store = open_store(url)
    assert {e.unit for e in store.exposures("e")} == {"x", "y"} and store.dead_letters() == []
