"""A target instead of settings: what is asked, what is tried, what is written down."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nc_refiner
from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.baselines import BaselineRefiner
from nc_refiner.config.refiner import RefinerDescription
from nc_refiner.evaluation import psnr, ssim
from nc_refiner.mask import as_mask
from nc_refiner.refining.fidelity import RUNS, TARGETS, Fidelity
from nc_refiner.refining.keeping.ladder import Ladder
from nc_refiner.refining.keeping.search import CLOSE, Search
from nc_refiner.refining.keeping.tuning import HEIGHTS, Line, Tuning, built_in, fitted, read_tuning, write_tuning
from nc_refiner.refining.settings import RefineSettings
from nc_refiner.refining.tune import tune

FEW = {"num_inference_steps": 10}


@pytest.fixture(scope="module")
def adapter() -> EmbeddedRefiner:
    return EmbeddedRefiner(device="cpu")


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    """A moving pattern with edges and smooth parts."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    frames = [torch.stack([x, y, ((8 * (x + 0.02 * i)).floor() % 2) * 0.6 + 0.2]) for i in range(3)]
    return VideoClip(torch.stack(frames), fps=8)


# What is asked


@pytest.mark.parametrize("value", ["ssim=0.9", {"ssim": 0.9}, {"ssim": "0.9", "psnr": None}, Fidelity(ssim=0.9)])
def test_every_way_to_say_it(value: Any) -> None:
    assert Fidelity.of(value) == Fidelity(ssim=0.9) and str(Fidelity.of(value)) == "ssim=0.9"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("ssim", "ssim=0.9"),
        ("sim=0.9", "did you mean 'ssim'"),
        ("ssim=high", "must be a number"),
        ("ssim=1.2", "between 0 and 1"),
        ("psnr=-3", "above 0"),
        ("psnr=nan", "above 0"),
        ("ssim=0.9,psnr=30", "one target, found ssim, psnr"),
        ({}, "one target, found none"),
        (0.9, "write a metric and its value"),
        ("ssim=0.9,lpips_weights=a.pth", "goes with lpips"),
    ],
)
def test_what_cannot_be_meant(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fidelity.of(value)


@given(st.sampled_from(TARGETS), st.floats(0.001, 0.999))
def test_distance_and_value_are_inverse(name: str, value: float) -> None:
    target = Fidelity(**{name: value})
    assert target.value_at(target.distance(value)) == pytest.approx(value, rel=1e-9)
    assert target.reached(value) and target.held(value)


def test_what_is_held_and_what_is_reached() -> None:
    at_least, at_most = Fidelity(ssim=0.9), Fidelity(delta_e=1.0)
    assert at_least.held(0.95) and not at_least.reached(0.95) and not at_least.held(0.88)
    assert at_most.held(0.5) and not at_most.reached(0.5) and not at_most.held(1.1)


# The ladder


@given(st.floats(0.01, 2.0), st.floats(0.2, 0.9), st.integers(4, 60), st.integers(1, 10))
def test_rungs_run_on_every_host_what_they_say(height: float, usual: float, steps: int, iterations: int) -> None:
    from nc_refiner.adapters.base import Requirements

    needs = Requirements(default_strength=usual, default_steps=steps)
    ladder = Ladder.of(needs, RefineSettings(), NoiseCalibration(iterations=iterations, cutoff=0.6))
    rung = ladder.rung(height)
    schedule, strength = rung.settings.num_inference_steps, rung.settings.strength
    assert schedule is not None and strength is not None
    # The rules of diffusers and of the embedded model agree.
    run = min(int(schedule * strength), schedule)
    assert run == min(int(schedule * strength + 1e-9), schedule) == round(rung.strength * schedule)
    assert ladder.steps <= run <= ladder.steps + 3
    assert 0 <= rung.calibration.cutoff <= 0.6 and rung.calibration.iterations == iterations


def test_the_ladder_climbs_and_then_lets_go() -> None:
    from nc_refiner.adapters.base import Requirements

    needs = Requirements(default_strength=0.4, default_steps=30)
    ladder = Ladder.of(needs, RefineSettings(), NoiseCalibration(cutoff=0.45))
    rungs = [ladder.rung(height) for height in (0.1, 0.5, 1.0, 1.5, 2.0)]
    assert [round(rung.strength, 2) for rung in rungs] == [0.06, 0.3, 0.6, 0.6, 0.6]
    assert [rung.calibration.cutoff for rung in rungs] == pytest.approx([0.45, 0.45, 0.45, 0.225, 0])
    capped = Ladder.of(needs, RefineSettings(strength=0.3), NoiseCalibration(cutoff=0.45))
    assert capped.rung(2.0).strength == pytest.approx(0.3, rel=0.01) and capped.rung(2.0).calibration.cutoff == 0.45


@pytest.mark.parametrize(
    ("given_settings", "calibration", "words"),
    [
        (RefineSettings(start_timestep=300), NoiseCalibration(), "start_timestep"),
        (RefineSettings(), NoiseCalibration(iterations=0), "needs calibration"),
        (RefineSettings(), NoiseCalibration(cutoff=0), "needs calibration"),
    ],
)
def test_no_ladder_without(given_settings: RefineSettings, calibration: NoiseCalibration, words: str) -> None:
    from nc_refiner.adapters.base import Requirements

    with pytest.raises(ValueError, match=words):
        Ladder.of(Requirements(), given_settings, calibration)


# The search


def curve(scale: float, power: float) -> Any:
    """1 − SSIM that grows along the ladder."""
    return lambda height: 1 - min(0.99, scale * height**power)


@given(st.floats(0.02, 0.2), st.floats(0.7, 1.6), st.floats(0.8, 0.97), st.floats(0.5, 2.0))
@settings(max_examples=200)
def test_the_search_reaches_what_can_be_reached(scale: float, power: float, wanted: float, off: float) -> None:
    real, target = curve(scale * off, power), Fidelity(ssim=wanted)
    lines = {"ssim": tuple(Line(h, math.log(scale * h ** (power * 1.15)), 0.0) for h in HEIGHTS)}
    search = Search(target, Tuning("x", 0.6, 3, 0.45, 5, lines), 0.1)
    while (height := search.next()) is not None:
        search.tell(height, real(height))
    assert 1 <= len(search.tried) <= RUNS
    best = search.tried[search.best()]
    if real(0.05) >= wanted >= real(2.0):
        assert target.reached(best.value)
    elif wanted > real(0.05):
        assert best.height == 0.05 or target.reached(best.value)
    else:
        assert best.height >= 2.0 - CLOSE or target.reached(best.value)


def test_lines_go_through_what_was_measured() -> None:
    intercept, slope = fitted([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)])
    assert (intercept, slope) == pytest.approx((1.0, 2.0))
    assert fitted([(1.0, 4.0), (1.0, 4.2)]) == pytest.approx((3.1, 1.0))


def test_a_tuning_is_kept(tmp_path: Path) -> None:
    tuning = built_in()
    write_tuning(tuning, tmp_path / "t.json")
    assert read_tuning(tmp_path / "t.json") == tuning
    assert set(tuning.lines) == {"ssim", "psnr", "mse_low", "delta_e"} and tuning.adapter == "embedded"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "lines": {"ssim": []}}', "\x00"])
def test_what_is_no_tuning(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="nc-refiner tune CLIPS"):
        read_tuning(path)
    with pytest.raises(ValueError, match="nc-refiner tune CLIPS"):
        read_tuning(tmp_path / "absent.json")


# The run


def test_the_answer_is_the_run_it_names(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    refiner = CalibratedRefiner(adapter)
    before = adapter.evaluations
    kept = refiner(clip, seed=3, keep=Fidelity(psnr=32.0), **FEW)
    record = kept.receipt["keep"]
    assert record["target"] == {"psnr": 32.0} and record["runs"] == len(record["tried"]) <= RUNS
    assert record["evaluations"] == adapter.evaluations - before
    measured = float(psnr(clip.frames, kept.clip.frames).mean())
    assert record["reached"] == pytest.approx(measured, abs=0.3)
    # The receipt's settings alone give the same bits, without a search.
    given_settings = {**kept.receipt["settings"], "num_inference_steps": kept.receipt["num_inference_steps"]}
    again = CalibratedRefiner(adapter, NoiseCalibration(**kept.receipt["calibration"]))
    repeated = again(clip, **given_settings)
    assert given_settings["keep"] is None and torch.equal(repeated.clip.frames, kept.clip.frames)
    assert repeated.trace == kept.trace


def test_a_target_beyond_reach_is_said(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    strict = CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=70", **FEW)
    assert not strict.receipt["keep"]["held"]
    assert "cannot be held" in " ".join(strict.receipt["degradations"])
    loose = CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=3", strength=0.3, **FEW)
    assert loose.receipt["keep"]["held"] and "leaves room" in " ".join(loose.receipt["degradations"])
    assert max(one["strength"] for one in loose.receipt["keep"]["tried"]) <= 0.31


def test_nearer_targets_give_nearer_outputs(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    found = [CalibratedRefiner(adapter)(clip, seed=3, keep={"ssim": value}, **FEW) for value in (0.75, 0.95)]
    far, near = (float(ssim(clip.frames, one.clip.frames).mean()) for one in found)
    assert near > far


def test_every_window_of_a_long_clip_has_its_own(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    # The second half moves less and is darker, so that another strength suits it.
    frames = torch.cat([clip.frames, clip.frames[-1:].expand(3, -1, -1, -1) * 0.3])
    refiner, asked = CalibratedRefiner(adapter), {"seed": 3, "window": 3, "overlap": 0, **FEW}
    refined = refiner(VideoClip(frames, 8.0), keep="psnr=32", **asked)
    record, windows = refined.receipt["keep"], refined.receipt["windows"]
    assert [(one["first"], one["frames"]) for one in record["windows"]] == [(0, 3), (3, 3)]
    assert record["runs"] == sum(len(one["tried"]) for one in record["windows"]) <= 2 * RUNS
    assert windows[0]["strength"] != windows[1]["strength"]
    for one, window in zip(record["windows"], windows, strict=True):
        part = slice(one["first"], one["first"] + one["frames"])
        measured = -10 * float((refined.clip.frames[part] - frames[part]).square().mean().log10())
        assert one["reached"] == pytest.approx(measured, abs=1e-3)
        assert window["strength"] in [tried["strength"] for tried in one["tried"]]
    assert record["reached"] == min(one["reached"] for one in record["windows"])
    # A window is what it is by itself, at its own place in the clip; and searching again finds the same.
    first = refiner(VideoClip(frames[:3], 8.0), keep="psnr=32", **asked)
    assert torch.equal(first.clip.frames, refined.clip.frames[:3])
    again = refiner(VideoClip(frames, 8.0), **refined.receipt["settings"] | FEW)
    assert torch.equal(again.clip.frames, refined.clip.frames)


def test_long_clips_sizes_and_masks(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    mask = torch.zeros(3, 24, 36)
    mask[2] = 1
    asked = {"seed": 3, "window": 2, "overlap": 1, "scale": 0.75, "keep": "psnr=30", **FEW}
    free = CalibratedRefiner(adapter, NoiseCalibration(cutoff=0.45))(clip, **asked)
    masked = CalibratedRefiner(adapter, NoiseCalibration(cutoff=0.45, mask=as_mask(mask)))(clip, **asked)
    assert free.clip.frames.shape == masked.clip.frames.shape == (3, 3, 24, 36)
    assert free.receipt["settings"]["scale"] == 0.75 and len(free.receipt["keep"]["windows"]) == 2
    assert not any("are used" in note for note in masked.receipt["degradations"])
    assert not torch.equal(free.clip.frames[0], masked.clip.frames[0])


def test_a_window_is_encoded_once(adapter: EmbeddedRefiner, clip: VideoClip, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, encode = [], adapter.encode

    def counted(frames: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        encoded.append(len(frames))
        return encode(frames, generator)

    monkeypatch.setattr(adapter, "encode", counted)
    CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=70", window=2, overlap=1, **FEW)
    assert encoded == [2, 2]


def test_windows_that_miss_are_said_in_one_line(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    refined = CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=70", window=2, overlap=1, **FEW)
    (line,) = [note for note in refined.receipt["degradations"] if "missed the target" in note]
    assert line.startswith("keep: 2 of 2 windows missed") and "frame 0: psnr=70: PSNR is" in line
    assert not refined.receipt["keep"]["held"]


def test_compare_runs_sdedit_at_what_was_chosen(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    from nc_refiner.refining.run import Refinement
    from nc_refiner.refining.together import refine_together

    asked = RefineSettings(seed=3, keep=Fidelity(psnr=30.0), **FEW)
    calibration = NoiseCalibration(cutoff=0.45)
    runs = [Refinement(adapter, replace(calibration, iterations=0), asked), Refinement(adapter, calibration, asked)]
    plain, kept = (torch.cat(parts) for parts in zip(*refine_together(runs, clip.frames, 3), strict=True))
    chosen = runs[1].settings
    alone = torch.cat(list(Refinement(adapter, NoiseCalibration(iterations=0), chosen).run(clip.frames, 3)))
    assert torch.equal(plain, alone) and not torch.equal(plain, kept)


def test_hosts_and_rivals_that_take_no_target(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    with pytest.raises(ValueError, match="baseline takes no target"):
        BaselineRefiner(adapter, "ilvr")(clip, keep="ssim=0.9")
    with pytest.raises(ValueError, match="tuning goes with keep"):
        RefineSettings(tuning="a.json")
    with pytest.raises(ValueError, match="tuning goes with keep"):
        RefinerDescription.model_validate({"tuning": "a.json"})


def test_tuning_another_host_is_refused(adapter: EmbeddedRefiner, clip: VideoClip, tmp_path: Path) -> None:
    write_tuning(replace(built_in(), adapter="other"), tmp_path / "t.json")
    with pytest.raises(ValueError, match="tuned for other, not embedded"):
        CalibratedRefiner(adapter)(clip, keep="ssim=0.9", tuning=str(tmp_path / "t.json"))


@pytest.mark.slow
def test_tune_learns_what_keep_uses(adapter: EmbeddedRefiner, clip: VideoClip, tmp_path: Path) -> None:
    count = []
    found = tune(
        adapter,
        [clip.frames, clip.frames.flip(-1) * 0.8],
        NoiseCalibration(cutoff=0.45),
        RefineSettings(seed=3, **FEW),
        on_run=lambda: count.append(1),
    )
    assert len(count) == 2 * len(HEIGHTS) and found.clips == 2 and found.strongest == pytest.approx(0.6)
    write_tuning(found, tmp_path / "t.json")
    kept = CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=32", tuning=str(tmp_path / "t.json"), **FEW)
    assert kept.receipt["keep"]["tuning"] == str(tmp_path / "t.json")
    assert abs(kept.receipt["keep"]["reached"] - 32) <= 0.3
    assert json.loads(json.dumps(kept.receipt))["keep"]["held"]


def test_the_global_random_state_stays(adapter: EmbeddedRefiner, clip: VideoClip) -> None:
    before = torch.get_rng_state()
    CalibratedRefiner(adapter)(clip, seed=3, keep="psnr=30", **FEW)
    assert torch.equal(before, torch.get_rng_state())


def test_the_public_name() -> None:
    assert nc_refiner.Fidelity is Fidelity
