"""Sides and orders: the same for a rater every time, different between raters, balanced for everyone."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from nc_refiner.experiment.study.plan import plan

# Written down once; a change would give raters who come back another order.
FIXED = [("p0", "c"), ("p1", "t"), ("p2", "c"), ("p3", "t")]
names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=9, unique=True)


@given(names, st.integers(2, 5), st.integers(0, 2**63 - 1), st.text(max_size=8))
def test_everything_is_shown_once_and_sides_are_balanced(pairs, arms, seed, rater):
    names = [f"arm{i}" for i in range(arms)]
    shown = plan(pairs, names, seed, rater)
    wanted = {(pair, frozenset(two)) for pair in pairs for two in combinations(names, 2)}
    assert len(shown) == len(wanted) and {(s.pair, s.arms) for s in shown} == wanted
    left, right = Counter(s.left for s in shown), Counter(s.right for s in shown)
    for arm in names:
        assert abs(left[arm] - right[arm]) <= 1
    for two in combinations(names, 2):
        sides = Counter(s.left for s in shown if s.arms == set(two))
        assert abs(sides[two[0]] - sides[two[1]]) <= 1
    assert shown == plan(list(reversed(pairs)), names[::-1], seed, rater)


def test_a_plan_is_the_same_on_every_machine():
    shown = plan(["p0", "p1", "p2", "p3"], ["c", "t"], 7, "ann")
    assert [(s.pair, s.left) for s in shown] == FIXED


def test_sides_and_orders_are_fair_over_raters():
    pairs = [f"p{i}" for i in range(5)]
    plans = [plan(pairs, ["c", "t"], 1, f"rater{i}") for i in range(600)]
    assert len({tuple((s.pair, s.left) for s in shown) for shown in plans}) > 500
    for pair in pairs:
        left = sum(s.left == "c" for shown in plans for s in shown if s.pair == pair)
        assert binomtest(left, 600).pvalue > 1e-4
    firsts = Counter(shown[0].pair for shown in plans)
    assert chisquare([firsts[pair] for pair in pairs]).pvalue > 1e-4
    assert binomtest(sum(shown[0].left == "c" for shown in plans), 600).pvalue > 1e-4
    # With an odd number of pairs someone has to be on the left once more.
    assert binomtest(sum(sum(s.left == "c" for s in shown) == 3 for shown in plans), 600).pvalue > 1e-4
