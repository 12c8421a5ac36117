"""Who gets which arm: uniform, independent, monotone in ramp and holdout, the same for ever."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest, pearsonr

from nc_refiner.experiment import FlagAssigner, Split, hash_provider
from nc_refiner.experiment.live.assignment import bucket

EVEN = {"control": 1.0, "nc": 1.0}
UNITS = [f"user-{i}" for i in range(4000)]
share = st.floats(0, 1)


def test_bucket_is_the_documented_hash():
    digest = hashlib.sha256(b"salt\x00u\xc3\xa9").hexdigest()
    assert bucket("salt", "ué") == int(bin(int(digest, 16))[2:].zfill(256)[:53], 2) / 2**53
    # Written down once: a change here would reshuffle everyone's running experiments.
    assert bucket("sharper", "user-1") == 0.33032158193078365


@pytest.mark.parametrize("salt", ["", "a", "experiment/arm", "ünï"])
def test_buckets_are_uniform(salt):
    assert kstest([bucket(salt, unit) for unit in UNITS], "uniform").pvalue > 1e-3


def test_salts_are_independent():
    assert abs(pearsonr([bucket("a", u) for u in UNITS], [bucket("b", u) for u in UNITS]).statistic) < 0.06


@given(st.text(max_size=20), st.text(max_size=20))
def test_every_text_has_a_bucket(salt, unit):
    assert 0 <= bucket(salt, unit) < 1 and bucket(salt, unit) == bucket(salt, unit)


@given(st.text(), share, share)
def test_a_unit_once_in_stays_in_its_arm_as_the_ramp_grows(unit, one, other):
    low, high = sorted((one, other))
    before, after = Split("e", EVEN, ramp=low).assign(unit), Split("e", EVEN, ramp=high).assign(unit)
    if before.exposed:
        assert after == before
    if not after.exposed:
        assert (after.reason, after.arm) == ("ramp", "control")


@given(st.text(), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_shrinking_holdout_takes_no_one_out(unit, one, other):
    low, high = sorted((one, other))
    before, after = Split("e", EVEN, holdout=high).assign(unit), Split("e", EVEN, holdout=low).assign(unit)
    assert after == before if before.exposed else before.reason == "holdout"


@given(st.text(), st.floats(0.01, 0.99))
def test_experiments_of_one_layer_share_no_unit(unit, cut):
    one = Split("one", EVEN, layer="page", slots=(0, cut)).assign(unit)
    two = Split("two", EVEN, layer="page", slots=(cut, 1)).assign(unit)
    assert one.exposed != two.exposed


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100), min_size=1), st.text())
def test_weight_is_the_arms_share(weights, unit):
    found = Split("e", weights).assign(unit)
    assert found.weight == pytest.approx(weights[found.arm] / sum(weights.values()))


def test_shares_follow_ramp_holdout_and_weights():
    split = Split("e", {"control": 3, "nc": 1}, ramp=0.5, holdout=0.2)
    found = [split.assign(unit) for unit in UNITS]
    inside = [a.arm for a in found if a.exposed]
    assert binomtest(len(inside), len(UNITS), 0.4).pvalue > 1e-3
    assert binomtest(inside.count("nc"), len(inside), 0.25).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": {}}, "no arm"),
        ({"weights": {"a": 0.0}}, "above 0"),
        ({"weights": {"a": float("nan")}}, "above 0"),
        ({"control": "x"}, "the arms are"),
        ({"ramp": 1.1}, r"\[0, 1\]"),
        ({"holdout": 1.0}, r"\[0, 1\)"),
        ({"slots": (0.0, 0.5)}, "layer"),
        ({"layer": "l", "slots": (0.5, 0.5)}, "below"),
        ({"experiment": ""}, "no name"),
    ],
)
def test_bad_splits_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Split(**{"experiment": "e", "weights": EVEN, **options})


@pytest.fixture
def client():
    from openfeature import api

    split = Split("e", EVEN, ramp=0.5)
    api.set_provider(hash_provider({"refiner": split}), "nc-refiner-tests")
    yield split, api.get_client("nc-refiner-tests")
    api.clear_providers()


def test_our_provider_gives_what_the_hash_gives(client):
    split, openfeature = client
    assigner = FlagAssigner(openfeature, "refiner", EVEN, "control")
    assert [assigner.assign(unit) for unit in UNITS[:200]] == [split.assign(unit) for unit in UNITS[:200]]


def test_unknown_flags_types_and_missing_units_give_the_default(client):
    from openfeature.evaluation_context import EvaluationContext

    _, openfeature = client
    assert FlagAssigner(openfeature, "other", EVEN, "control").assign("u").reason == "default"
    assert openfeature.get_boolean_value("refiner", False, EvaluationContext("u")) is False
    assert openfeature.get_string_value("refiner", "fallback") == "fallback"


def test_a_teams_own_provider_decides():
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    flags = {"on": InMemoryFlag("b", {"b": "nc"}), "odd": InMemoryFlag("b", {"b": "who"})}
    api.set_provider(InMemoryProvider(flags), "nc-refiner-team")
    client = api.get_client("nc-refiner-team")
    found = FlagAssigner(client, "on", EVEN, "control").assign("u")
    assert (found.arm, found.reason, found.weight) == ("nc", "flag", None)
    assert FlagAssigner(client, "odd", EVEN, "control").assign("u").reason == "default"
    api.clear_providers()
