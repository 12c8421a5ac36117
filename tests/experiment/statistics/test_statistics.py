"""The statistics against independent computations, and their calibration at small size."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import simulate_ab
from ab_calibration.draws import DIFFERENCES, LEVELS
from ab_calibration.many_looks import LOOKED_AT, peeking, peeking_live
from ab_calibration.one_look import by_clip, coverage, paired_differences
from ab_calibration.planning import DESIGNS, planned
from statsmodels.stats.multitest import multipletests

from nc_refiner.experiment.statistics.analysis import Options, analyze
from nc_refiner.experiment.statistics.confidence_sequences import (
    bounded_mean_sequence,
    difference_sequence,
    e_values,
    mean_sequence,
    mixing_scale,
)
from nc_refiner.experiment.statistics.deciding import one_look, skewed
from nc_refiner.experiment.statistics.holm import holm
from nc_refiner.experiment.statistics.observations import Exposure, Observation
from nc_refiner.experiment.statistics.power import PlanReport, plan
from nc_refiner.experiment.statistics.sample_ratio import check_sample_ratio
from nc_refiner.experiment.statistics.samples import Sample, samples


def sample_of(differences: np.ndarray) -> Sample:
    names = tuple(f"u{i}" for i in range(len(differences)))
    return Sample(True, names, np.zeros(len(names)), np.asarray(differences, float), np.ones(len(names), bool))


def test_the_band_is_where_the_e_value_reaches_one_over_alpha() -> None:
    values = np.random.default_rng(0).normal(0.3, 2.0, 60)
    sequence, scale = mean_sequence(values, 0.05, 50), mixing_scale(50, 0.05)
    for n in (10, 30, 60):
        for edge in (sequence.low[n - 1], sequence.high[n - 1]):
            t = (values[:n].mean() - edge) / (values[:n].std(ddof=1) / math.sqrt(n))
            found = e_values(np.array([float(n)]), np.array([n - 1.0]), np.array([t]), scale)[0]
            assert found == pytest.approx(20, rel=1e-6)


def test_the_e_value_is_the_mixture_of_noncentral_t_likelihood_ratios() -> None:
    n, t, scale = 12, 2.3, 0.7
    effect = np.linspace(-8, 8, 200_001) * scale
    prior = stats.norm.pdf(effect, 0, scale)
    ratio = stats.nct.pdf(t, n - 1, effect[::400] * math.sqrt(n)) / stats.t.pdf(t, n - 1)
    expected = np.trapezoid(ratio * prior[::400], effect[::400])
    found = e_values(np.array([float(n)]), np.array([n - 1.0]), np.array([t]), scale)[0]
    assert found == pytest.approx(expected, rel=1e-3)


@settings(max_examples=30)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_the_band_follows_shift_and_scale(shift: float, scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(40)
    sequence, moved = mean_sequence(values), mean_sequence(shift + scale * values)
    seen = np.isfinite(sequence.low)
    tolerance = 1e-6 * (abs(shift) + scale)
    assert np.array_equal(seen, np.isfinite(moved.low)) and seen[-1]
    assert np.abs(moved.low[seen] - shift - scale * sequence.low[seen]).max() < tolerance


def test_live_bands_say_nothing_before_they_know_anything() -> None:
    values, treated = np.arange(80.0), np.arange(80) % 2 == 0
    sequence = difference_sequence(values, treated)
    assert np.isinf(sequence.low[:59]).all() and np.isfinite(sequence.low[-1])
    with pytest.raises(ValueError, match="must lie in"):
        bounded_mean_sequence(np.array([0.0, 2.0]), 0.0, 1.0)
    zeros = bounded_mean_sequence(np.zeros(1000), 0.0, 1.0)
    assert zeros.low[-1] == 0 and 0.001 < zeros.high[-1] < 0.02


def test_seeds_are_averaged_within_a_unit_and_pairs_without_a_partner_left_out() -> None:
    rows = [
        Observation("e", unit, arm, "mse", value, pair=f"{unit}{seed}", seed=seed)
        for unit, seed, arm, value in (
            ("a", 0, "c", 1.0), ("a", 0, "t", 2.0), ("a", 1, "c", 3.0), ("a", 1, "t", 6.0),
            ("b", 0, "c", 1.0), ("b", 0, "t", 0.0), ("d", 0, "c", 9.0),
        )
    ]  # fmt: skip
    sample = samples(rows, "c")["mse", "t"]
    assert sample.paired and sample.units == ("a", "b") and sample.dropped == 1
    assert sample.differences.tolist() == [2.0, -1.0]


def test_sample_ratio_against_scipy_and_through_a_ramp() -> None:
    def exposed(counts: dict[str, int], weights: dict[str, float], start: int = 0) -> list[Exposure]:
        return [
            Exposure("e", f"{arm}{start}-{i}", arm, start + i, weights[arm])
            for arm, count in counts.items()
            for i in range(count)
        ]

    fair = check_sample_ratio(exposed({"a": 520, "b": 480}, {"a": 0.5, "b": 0.5}))
    assert fair.p == pytest.approx(stats.chisquare([520, 480]).pvalue) and not fair.mismatch
    assert check_sample_ratio(exposed({"a": 700, "b": 300}, {"a": 0.5, "b": 0.5})).mismatch
    ramp = exposed({"a": 900, "b": 100}, {"a": 0.9, "b": 0.1}) + exposed(
        {"a": 500, "b": 500}, {"a": 0.5, "b": 0.5}, 5000
    )
    assert check_sample_ratio(ramp).p == pytest.approx(1) and dict(check_sample_ratio(ramp).expected) == {
        "a": 1400,
        "b": 600,
    }


def test_the_plan_agrees_with_the_textbook_and_with_itself() -> None:
    assert plan(0.5, 1.0, paired=False).units == 64  # Cohen 1988, table 2.4.1
    found = plan(0.5, 1.0)
    assert found.power >= 0.8 > plan(0.5, 1.0, units=found.units - 1).power
    assert plan(0.5, 1.0, sequential=True).units > found.units
    for design in ({}, {"sequential": True}, {"paired": False}):
        assert plan(100.0, 1.0, **design).units >= 8 and plan(100.0, 1.0, units=7, **design).power == 0
    assert plan(100.0, 1.0, sequential=True, paired=False).units == 30, "live intervals say nothing before"
    with pytest.raises(ValueError, match="other than 0"):
        plan(0.0, 1.0)


@given(st.floats(0.01, 50), st.integers(8, 2000), st.booleans(), st.sampled_from([0.05, 0.01, 1e-4]))
@example(2.0, 30, True, 0.05)
@example(0.5, 1000, False, 0.05)
def test_the_power_is_that_of_the_definition(size, count, paired, alpha):
    """P(|T| > c), T = (Z + δ)/√(V/ν): the normal's two tails, averaged over V's quantiles."""
    freedom = count - 1 if paired else 2 * count - 2
    critical, shift = stats.t.isf(alpha / 2, freedom), size * math.sqrt(count if paired else count / 2)
    spread = critical * np.sqrt(stats.chi2.ppf((np.arange(4001) + 0.5) / 4001, freedom) / freedom)
    expected = float((stats.norm.sf(spread - shift) + stats.norm.cdf(-spread - shift)).mean())
    assert plan(size, 1.0, units=count, alpha=alpha, paired=paired).power == pytest.approx(expected, abs=1e-3)


def test_holm_is_that_of_statsmodels() -> None:
    for p in ([0.3], [0.01, 0.04, 0.03], [0.02, 0.02, 1.0, 0.0, 0.6]):
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_the_typical_difference_and_its_interval_belong_to_the_rank_test() -> None:
    rng, agreed = np.random.default_rng(5), 0
    for _ in range(60):
        differences = rng.lognormal(0, 1, rng.integers(8, 49)) - 1.2
        if not skewed(differences):
            continue
        look = one_look(sample_of(differences))
        assert look.test == "Wilcoxon signed-rank test" and look.interval.method == "Hodges–Lehmann interval"
        assert look.p == pytest.approx(stats.wilcoxon(differences).pvalue)
        assert look.interval.excludes_zero() == (look.p <= 0.05)
        walsh = [(a + b) / 2 for i, a in enumerate(differences) for b in differences[i:]]
        assert look.estimate == pytest.approx(np.median(walsh))
        agreed += 1
    assert agreed > 30


def test_every_other_sample_is_decided_by_t() -> None:
    differences = np.linspace(-1, 1.4, 20)
    look = one_look(sample_of(differences))
    assert (look.test, look.interval.method) == ("paired t test", "t interval")
    assert look.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert not skewed(np.random.default_rng(7).lognormal(0, 2, 50)), "the bootstrap follows the skew of 50"
    steady = one_look(sample_of(np.full(8, 3.0)))
    assert steady.p == pytest.approx(2 / 2**8) and steady.interval.low == steady.interval.high == 3.0
    assert one_look(sample_of(np.zeros(8))).p == 1.0 and one_look(sample_of(np.ones(1))).test == "none"


def test_a_small_simulation_of_equal_arms() -> None:
    found = by_clip(LEVELS["log-normal"], 8, 4, 60, seed=1)
    # Nominally 5 %: 0 to 10 of 60 with probability above 0.999.
    assert found.shown.hits <= 10 and found.ranks.hits > 0
    covered = coverage(DIFFERENCES["normal"], 8, 60, seed=2)
    assert covered["t"].hits >= 50 and covered["BCa"].runs == 15


def test_one_part_of_the_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert simulate_ab.main(["looks", "--simulations", "4", "--looks", "40"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("## A look after every unit") and all(f"| {name} |" in said for name in LOOKED_AT)


def test_looks_are_those_of_the_analysis() -> None:
    values = np.random.default_rng(8).standard_normal(30) - 0.4
    sequence = mean_sequence(values)
    for units in (8, 20, 30):
        rows = [
            Observation("e", f"u{i}", arm, "mse", float(value), pair=f"u{i}")
            for i in range(units)
            for arm, value in (("control", 0.0), ("nc", values[i]))
        ]
        decided = analyze(rows, Options("control", sequential=True)).comparisons[0]
        found = (decided.deciding.low, decided.deciding.high)
        assert found == pytest.approx((sequence.low[units - 1], sequence.high[units - 1]))


def test_a_plan_in_words_names_the_test_that_will_decide() -> None:
    def said(asked: bool, **design: object) -> list[str]:
        return list(PlanReport(plan(0.5, 1.0, **design), asked, None, ()).lines())  # type: ignore[arg-type]

    assert said(False)[0] == "34 units are needed to show an effect of 0.5 (sd 1), one look, paired t test."
    assert "Welch's t test" in said(False, paired=False)[0]
    assert said(False, sequential=True)[-1].startswith("Give ab analyze --planned 64")
    assert said(True, units=5) == ["5 units decide nothing, whatever the effect: the analysis needs at least 8."]
    (live,) = said(True, units=20, paired=False, sequential=True)
    assert live.startswith("20 units per arm decide nothing") and live.endswith("at least 30.")


@pytest.mark.slow
@pytest.mark.parametrize("levels", list(LEVELS))
@pytest.mark.parametrize(("clips", "pieces"), [(8, 8), (12, 4), (30, 1)])
def test_equal_arms_are_told_apart_at_the_stated_rate(levels: str, clips: int, pieces: int) -> None:
    found = by_clip(LEVELS[levels], clips, pieces, 400, seed=1).shown
    # At 3 % to 7 %: 3 to 44 of 400 with probability above 0.999.
    assert 3 <= found.hits <= 44


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOOKED_AT if name.startswith("equal arms")])
def test_looking_again_and_again_errs_no_more_often(name: str) -> None:
    found = peeking(LOOKED_AT[name], 200, 300, seed=2)
    assert found.always_valid.share < 0.05 < 0.15 < found.repeated_t.share
    assert all(rate.share < 0.05 for rate in peeking_live(400, 150, seed=3).values())


@pytest.mark.slow
def test_several_metrics_are_corrected_for() -> None:
    assert paired_differences(DIFFERENCES["normal"], 32, 0.0, 150, seed=7, metrics=8).shown.hits <= 16


@pytest.mark.slow
@pytest.mark.parametrize("design", [d for d in DESIGNS if d[0] in (1.0, 2.0)])
def test_a_plan_keeps_its_promise(design: tuple[float, float, bool, bool]) -> None:
    found = planned(*design, 500, seed=11)
    # Three points, and what 500 runs may differ by chance (3 standard errors are at most 5.4 points).
    assert found.plan.units >= 8 and abs(found.apart) < 0.03 + 3 * math.sqrt(found.plan.power / 500 * 0.2)
