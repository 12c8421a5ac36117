"""Intervals over clips: known cases, coverage, pairing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nc_refiner.experiment.statistics.fixed_horizon import per_clip
from nc_refiner.sweeps import mean_interval, paired_difference


def rows(values: dict[tuple[str, str, int], float | None]) -> list[dict]:
    return [{"clip": clip, "label": arm, "seed": seed, "mse": value} for (clip, arm, seed), value in values.items()]


def arm(name):
    return lambda row: row["label"] == name


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
def test_the_mean_lies_in_its_interval(values):
    found = mean_interval(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12) and found.count == len(values)
    if len(values) == 1:
        assert found.low is None and found.high is None
    else:
        assert found.low <= found.mean + 1e-9 and found.mean <= found.high + 1e-9


def test_intervals_cover():
    generator = np.random.default_rng(0)
    found = [mean_interval(generator.normal(0.3, 1.0, 20).tolist()) for _ in range(60)]
    assert 50 <= sum(one.low <= 0.3 <= one.high for one in found) <= 60


def test_the_same_values_give_the_same_interval():
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])
    assert mean_interval([2.0, 2.0]).low == 2.0
    with pytest.raises(ValueError, match="no clip"):
        mean_interval([])


def test_differences_are_paired_by_clip_and_seeds_are_averaged_first():
    table = rows(
        {
            ("a", "x", 0): 1.0,
            ("a", "x", 1): 3.0,
            ("a", "base", 0): 1.0,
            ("b", "x", 0): 12.0,
            ("b", "base", 0): 10.0,
            ("c", "x", 0): 5.0,
            ("d", "base", 0): 5.0,
            ("c", "base", 0): None,
        }
    )
    found = paired_difference(table, "mse", arm("x"), arm("base"))
    assert (found.mean, found.count, found.below, found.above) == (1.5, 2, 0, 2)
    assert paired_difference(table, "mse", arm("x"), arm("none")) is None
    assert per_clip(table, "mse", arm("x")) == {"a": 2.0, "b": 12.0, "c": 5.0}


def test_pairing_is_what_makes_a_small_gain_visible():
    generator = np.random.default_rng(1)
    levels = generator.normal(0, 10, 12)
    table = rows(
        {
            **{(str(i), "base", 0): level for i, level in enumerate(levels)},
            **{(str(i), "x", 0): level - 0.5 + generator.normal(0, 0.1) for i, level in enumerate(levels)},
        }
    )
    found = paired_difference(table, "mse", arm("x"), arm("base"))
    assert found.high < 0 and found.below == 12


@pytest.mark.parametrize("count", [2, 8, 49, 50, 200])
def test_small_samples_have_students_interval(count):
    values = np.random.default_rng(2).lognormal(0, 1, count)
    found = mean_interval(values.tolist())
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    students = found.low == pytest.approx(values.mean() - half) and found.high == pytest.approx(values.mean() + half)
    assert students == (count < 50)
