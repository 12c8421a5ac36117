"""The statistics against independent computations, and their calibration at small size."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import simulate_ab as simulate

from nc_refiner.experiment.statistics.confidence_sequences import (
    bounded_mean_sequence,
    difference_sequence,
    e_values,
    mean_sequence,
    mixing_scale,
)
from nc_refiner.experiment.statistics.observations import Exposure, Observation
from nc_refiner.experiment.statistics.power import plan
from nc_refiner.experiment.statistics.sample_ratio import check_sample_ratio
from nc_refiner.experiment.statistics.samples import samples


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
    with pytest.raises(ValueError, match="other than 0"):
        plan(0.0, 1.0)


@pytest.mark.slow
def test_equal_arms_are_told_apart_at_the_stated_rate() -> None:
    found = simulate.fixed_horizon(simulate.DIFFERENCES["normal"], 32, 0.0, 150, seed=1)["verdict"]
    # Nominally 5 %: 0 to 16 of 150 with probability above 0.999.
    assert found.hits <= 16
    for name in ("normal", "heavy tails (t, 3 degrees)"):
        rates = simulate.peeking(simulate.DIFFERENCES[name], 200, 300, seed=2)
        assert rates["always valid"].share < 0.05 < 0.15 < rates["repeated t test"].share
    assert all(rate.share < 0.05 for rate in simulate.peeking_live(400, 150, seed=3).values())


@pytest.mark.slow
def test_a_known_effect_is_found_at_the_planned_power() -> None:
    _, found = simulate.planned_power(0.8, 0.8, 150, seed=4)
    assert 0.68 < found.share < 0.92
    _, there, by_then, _ = simulate.planned_sequential_power(0.8, 0.8, 300, seed=5)
    assert 0.72 < there.share < 0.9 and by_then.hits >= there.hits
