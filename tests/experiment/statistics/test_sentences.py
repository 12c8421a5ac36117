"""What the text report says: every sentence is one, every method named, nothing claimed that is not known."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nc_refiner.experiment.reports.text import as_data, as_lines
from nc_refiner.experiment.reports.words import conclude
from nc_refiner.experiment.reports.words import test_of as told_test
from nc_refiner.experiment.statistics.analysis import Analysis, analyze
from nc_refiner.experiment.statistics.fixed_horizon import Interval
from nc_refiner.experiment.statistics.observations import Observation
from nc_refiner.experiment.statistics.options import Options
from nc_refiner.experiment.statistics.ranking import Pairing, _above


def analysis(differences: dict[str, np.ndarray], **options: object) -> Analysis:
    """Per arm its differences to the control in MSE; every arm takes 3 evaluations more."""
    count = len(next(iter(differences.values())))
    rows = [
        Observation("e", f"c{i}", arm, metric, float(value), pair=f"c{i}")
        for i in range(count)
        for arm, by in {"sdedit": np.zeros(count), **differences}.items()
        for metric, value in (
            ("mse", 1 + by[i]),
            ("spatial_frequency", 0.1 + by[i]),
            ("evaluations", 12 + 3 * (arm != "sdedit")),
        )
    ]
    given = {"guardrails": {"evaluations": "1.25x"}, "unit": "clip", "primary": "mse", **options}
    return analyze(rows, Options("sdedit", **given))  # type: ignore[arg-type]


RNG = np.random.default_rng(3)
NORMAL = RNG.standard_normal(20)
NORMAL -= NORMAL.mean()
CASES = {
    "one clip": analysis({"nc": np.array([0.1])}),
    "better": analysis({"nc": NORMAL - 1.5}, fixed=True),
    "skewed": analysis({"nc": -RNG.lognormal(0, 1, 20)}, fixed=True),
    "open": analysis({"nc": NORMAL}),
    "many looks": analysis({"nc": RNG.lognormal(0, 1, 40)}, sequential=True),
    "three arms": analysis(
        {"nc": NORMAL - 2, "more": NORMAL[::-1] - 2.1, "less": NORMAL + 2},
        segments={f"c{i}": "day" if i % 2 else "night" for i in range(20)},
        segmented_by="tag",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sentences(name: str) -> None:
    found = CASES[name]
    said = [text for one in conclude(found) for text in (one.headline, *one.reasons, *one.others)]
    lines = list(as_lines(found))
    for text in [*said, *found.notes]:
        assert text[0].isupper() or text[0].isalpha(), text
        assert text.endswith(".") and "  " not in text and "()" not in text, text
    for text in [*said, *lines]:
        assert not re.search(r"\b1 (clips|frames|units)\b|0 to 0|−0\b(?!\.)|nan|∞|None", text), text
    assert lines[0] == conclude(found)[0].headline
    json.dumps(as_data(found), allow_nan=False)


def test_one_clip_is_said_first_and_claims_nothing() -> None:
    lines = list(as_lines(CASES["one clip"]))
    assert lines[0] == "Not enough clips: 1 clip; at least 8 are needed to say anything."
    assert not any("Method" in line or "better" in line for line in lines)
    (reason, rail) = conclude(CASES["one clip"])[0].reasons
    assert "with 1 clip of the 8 it needs" in rail and "exactly at the limit" in rail and "1 clip" in reason


def test_methods_and_corrections_are_named() -> None:
    found = {c.metric.name: c for c in CASES["better"].comparisons}
    assert (found["mse"].corrected, found["spatial_frequency"].corrected, found["evaluations"].corrected) == (
        True,
        False,
        False,
    )
    assert told_test(found["mse"]) == "p (Holm) < 0.001, paired t test"
    assert told_test(found["spatial_frequency"]).startswith("uncorrected p < 0.001")
    text = "\n".join(as_lines(CASES["better"]))
    assert "Method: paired t test, t interval (mse, spatial_frequency)." in text
    row = next(line for line in text.splitlines() if line.startswith("spatial_frequency"))
    assert re.search(r"\d  –  +different$", row), "no corrected p where nothing was corrected"
    data = {c["metric"]: c for c in as_data(CASES["better"])["comparisons"]}
    assert data["evaluations"]["p_holm"] is None and data["mse"]["p_holm"] == data["mse"]["p"]
    assert data["mse"]["test"] == "paired t test" and data["mse"]["interval"]["method"] == "t interval"


def test_skew_hands_over_to_the_rank_test_and_says_so() -> None:
    found = CASES["skewed"]
    row = found.comparisons[0]
    assert row.skewed and row.method == "Wilcoxon signed-rank test, Hodges–Lehmann interval" and row.note
    assert row.estimate != row.difference and row.deciding.low < row.estimate < row.deciding.high
    conclusion = conclude(found)[0]
    assert conclusion.headline.startswith(
        "Prefer nc: it is better than sdedit on MSE to the input for the typical clip"
    )
    assert "the mean difference is" in conclusion.reasons[0]
    assert any("rank test decides" in note for note in found.notes)
    looked = CASES["many looks"]
    assert looked.comparisons[0].skewed and looked.comparisons[0].method == "always-valid interval"
    assert any("look once" in note for note in looked.notes) and "typical" not in conclude(looked)[0].headline


def test_fixed_in_advance_is_said_only_where_it_was() -> None:
    assert CASES["better"].fixed and not CASES["open"].fixed and not CASES["many looks"].fixed
    said = {name: "\n".join(as_lines(found)) for name, found in CASES.items()}
    assert "that the experiment's file fixed in advance" in said["better"]
    assert "fixed in advance" not in said["open"] and "not recorded" in said["open"]
    assert "always-valid" in said["many looks"] and "fixed in advance" not in said["many looks"]


def test_arms_are_ranked_against_each_other() -> None:
    ranking = CASES["three arms"].ranking
    assert ranking is not None
    assert [(one.arm, one.place) for one in ranking.standings] == [("more", 1), ("nc", 1), ("sdedit", 3), ("less", 4)]
    assert ranking.standings[0].beats == ("sdedit", "less") and len(ranking.pairs) == 6
    even = next(pair for pair in ranking.pairs if {pair.arm, pair.other} == {"more", "nc"})
    assert even.verdict == "undecided" and even.arm == "more" and even.difference == pytest.approx(-0.1)
    assert even.interval.low < even.difference < even.interval.high
    assert all(pair.p_adjusted >= pair.p for pair in ranking.pairs)
    assert ranking.sentence == ("On MSE to the input more is ahead of sdedit and less; it is not told apart from nc.")
    # One family: the arms against each other count in the correction of every row.
    alone = analysis({"nc": NORMAL - 2})
    with_others = next(c for c in CASES["three arms"].comparisons if c.arm == "nc" and c.metric.name == "mse")
    assert with_others.p == alone.comparisons[0].p and with_others.p_adjusted > alone.comparisons[0].p_adjusted
    text = "\n".join(as_lines(CASES["three arms"]))
    assert ranking.sentence in text and re.search(r"^1 +more .* sdedit, less$", text, re.M)


def test_who_is_beaten_stands_lower_than_who_beats_it() -> None:
    """a is shown better than b and b than c, and a is not told apart from c: three places."""

    def pair(arm: str, other: str, verdict: str) -> Pairing:
        return Pairing(arm, other, -1.0, Interval(-2, 0, "t interval"), "paired t test", 0.1, 0.1, 9, verdict)  # type: ignore[arg-type]

    pairs = [pair("a", "b", "better"), pair("b", "c", "better"), pair("c", "a", "undecided")]
    assert [sorted(_above(arm, pairs)) for arm in "abc"] == [[], ["a"], ["a", "b"]]


def test_segments_and_extremes() -> None:
    found = CASES["three arms"]
    assert {(one.name, one.by, one.units) for one in found.segments} == {("day", "tag", 10), ("night", "tag", 10)}
    for one in found.segments:
        mine = [NORMAL[i] - 2 for i in range(20) if (i % 2 == 1) == (one.name == "day")]
        if one.arm == "nc":
            assert one.difference == pytest.approx(np.mean(mine)) and one.verdict == "better"
            assert one.interval.low < one.difference < one.interval.high and one.p_adjusted >= one.p
    worst, best = found.worst("less"), found.best("nc")
    assert len(worst) == len(best) == 5
    assert [one.unit for one in found.best("less")] == [f"c{NORMAL.argmin()}"], "no clip it is worse on"
    assert worst[0].difference == pytest.approx(NORMAL.max() + 2) and worst[0].unit == f"c{NORMAL.argmax()}"
    assert best[0].difference == pytest.approx(NORMAL.min() - 2)
    assert [one.difference for one in worst] == sorted((one.difference for one in worst), reverse=True)
    assert not CASES["better"].segments
