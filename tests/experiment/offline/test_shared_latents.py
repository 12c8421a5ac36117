"""Sharing changes no number: every row is what the arm gives when it is run alone, and costs far less together."""

from __future__ import annotations

import pytest
import torch

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.baselines import BaselineRefiner
from nc_refiner.evaluation import mse, psnr
from nc_refiner.experiment.offline.arms import arms_of
from nc_refiner.sweeps import Arm, Bench, SweepClip, SweepPlan, run_plan

from ...evaluation.conftest import noisy, textured

STEPS, STRENGTH = 10, 0.4
METRICS = ("mse", "spatial_frequency")
PLAN = SweepPlan(
    iterations=(0, 1, 3),
    cutoffs=(0.0, 0.5, 1.0),
    strengths=(STRENGTH,),
    seeds=(7,),
    num_inference_steps=STEPS,
    baselines=("input", "ilvr", "inversion", "renoise", "matched_sdedit"),
    match_iterations=2,
    trace_iterations=4,
    metrics=METRICS,
)


@pytest.fixture(scope="module")
def clip() -> SweepClip:
    original = textured(1, 36, 32)
    return SweepClip("a", noisy(original, 0.1), original)


def alone(small_embedded, clip, row, reuse):
    settings = {"seed": row["seed"], "strength": STRENGTH, "num_inference_steps": STEPS}
    if row["method"] in ("sdedit", "nc"):
        cutoff = row["cutoff"] if row["method"] == "nc" else 1.0
        calibration = NoiseCalibration(row["iterations"], cutoff, reuse_prediction=reuse)
        return CalibratedRefiner(small_embedded, calibration)(VideoClip(clip.frames), **settings)
    if row["method"] == "input":
        settings["seed"] = 0
    calibration = NoiseCalibration(row["iterations"] or 0, row["cutoff"] or 1.0, reuse_prediction=reuse)
    refiner = BaselineRefiner(small_embedded, row["method"], row["cutoff"] or 0.5, calibration)
    return refiner(VideoClip(clip.frames), **settings)


@pytest.mark.parametrize("reuse", [None, False])
def test_every_row_is_the_arm_run_alone(small_embedded, clip, reuse, tmp_path, global_rng_untouched):
    small_embedded.evaluations = 0
    rows = run_plan(small_embedded, [clip], PLAN.model_copy(update={"reuse_prediction": reuse}), tmp_path)
    together = small_embedded.evaluations
    for row in rows:
        if row["method"] == "trace":
            continue
        result = alone(small_embedded, clip, row, reuse)
        assert row["mse"] == pytest.approx(float(mse(clip.frames, result.clip.frames).mean()), rel=1e-12), row["label"]
        error = float(mse(clip.original, result.clip.frames).mean())
        assert row["psnr_to_original"] == pytest.approx(float(-10 * torch.tensor(error).log10()), abs=1e-4)
        if row["method"] in ("sdedit", "nc"):
            assert row["evaluations"] == sum(result.receipt["evaluations"].values())
            trace = list(result.trace.content_loss)
            assert (row.get("content_loss") or [])[: len(trace)] == pytest.approx(trace, rel=1e-6)
    by_label = {row["label"]: row for row in rows}
    assert by_label["trace, ν = 0.5"]["content_loss"][:4] == by_label["NC, N = 3, ν = 0.5"]["content_loss"]
    calibrations = [row for row in rows if row["method"] in ("sdedit", "nc")]
    assert len(calibrations) == 1 + 2 * 3  # N = 0 and ν = 0 are one; N = 2 came with the match
    # One prediction serves SDEdit and both ν; each ν goes on to N = 4 once; every denoising lacks its first.
    expected = 1 + 2 * 4 + len(calibrations) * 3 + 4 + 8
    matching = together - expected
    assert 0 < matching <= 2 * 6 * 4
    assert together < sum(row["evaluations"] for row in rows) + matching


def test_equal_settings_are_one_arm():
    arms = arms_of(SweepPlan(iterations=(0, 0, 2), cutoffs=(0.0, 1.0, 1.0), seeds=(0,)), (0.4, 0.4))
    assert arms == [Arm("sdedit", 0, None, 0.4, 0), Arm("nc", 2, 1.0, 0.4, 0)]
    assert arms_of(SweepPlan(iterations=(2,)), (0.4,))[0].method == "sdedit"


def test_seeds_differ_and_strengths_too(small_embedded, clip, tmp_path):
    plan = SweepPlan(iterations=(1,), strengths=(0.2, 0.4), seeds=(0, 1), num_inference_steps=STEPS, metrics=("mse",))
    rows = run_plan(small_embedded, [clip], plan, tmp_path)
    assert len({row["mse"] for row in rows}) == len(rows) == 8


def test_psnr_to_the_original_is_of_the_mean_error(small_embedded, clip):
    ((_, row),) = Bench(small_embedded, clip, SweepPlan(metrics=("mse",))).rows([Arm("input")])
    assert row["mse"] == 0
    assert row["psnr_to_original"] == pytest.approx(float(psnr(clip.original, clip.frames).mean()), abs=0.05)


def test_longer_than_a_window_is_refused(small_embedded):
    long = SweepClip("long", torch.zeros(33, 3, 16, 16))
    with pytest.raises(ValueError, match=r"long has 33 frames.*at most 32"):
        Bench(small_embedded, long, SweepPlan())
