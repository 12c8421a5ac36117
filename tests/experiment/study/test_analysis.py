"""The analysis against numbers worked out by hand, and how often it errs where there is nothing to find."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nc_refiner.experiment.study import clustered as room
from nc_refiner.experiment.study.analysis import analyze_votes
from nc_refiner.experiment.study.clustered import clustered
from nc_refiner.experiment.study.summary import as_data, as_lines, conclusions
from nc_refiner.experiment.study.votes import Study, Vote

QUESTIONS = ("consistency", "quality", "texture")


def study_of(items: int, arms=("sdedit", "nc")) -> Study:
    return Study("s", tuple(arms), arms[0], {f"p{i}": "" for i in range(items)}, 1, "key")


def vote(rater: int, item: int, question: str, for_nc: bool, nc_left: bool, seconds: float = 2.0) -> Vote:
    left, right = ("nc", "sdedit") if nc_left else ("sdedit", "nc")
    choice = "nc" if for_nc else "sdedit"
    return Vote(f"r{rater}", f"p{item}", f"p{item}", question, choice, left, right, seconds)


def test_two_raters_by_hand():
    # Raters 0 and 1 on four items. Consistency: 7 of 8 for nc, rater 1 differs on item 0. Quality: 8 of 8.
    # Texture: always the left side, where nc is on even items: 4 of 8.
    votes = []
    for rater in (0, 1):
        for item in range(4):
            left = item % 2 == 0
            votes.append(vote(rater, item, "consistency", not (rater == 1 and item == 0), left, 1.0))
            votes.append(vote(rater, item, "quality", True, left, 2.0))
            votes.append(vote(rater, item, "texture", left, left, 9.0))
    found = analyze_votes(study_of(4), votes)
    consistency, quality, texture = found.preferences
    assert [(p.share.count, p.share.total) for p in found.preferences] == [(7, 8), (8, 8), (4, 8)]
    # P(X >= 7) = (8 + 1) / 256, both tails; all eight: 1 / 256, both tails.
    assert consistency.share.p == pytest.approx(18 / 256) and quality.share.p == pytest.approx(2 / 256)
    assert texture.share.p == pytest.approx(1)
    # Holm: 3 * 2/256 = 6/256; 2 * 18/256 = 36/256; 1.
    assert quality.p_adjusted == pytest.approx(6 / 256) and consistency.p_adjusted == pytest.approx(36 / 256)
    # Clopper-Pearson: of 8 in 8 the lower end solves x^8 = 0.025; of 7 in 8, P(X >= 7) = 8 x^7 - 7 x^8 = 0.025.
    assert quality.share.low == pytest.approx(0.025 ** (1 / 8)) and quality.share.high == 1
    low = consistency.share.low
    assert 8 * low**7 - 7 * low**8 == pytest.approx(0.025)
    # The upper end: P(X <= 7) = 1 - x^8 = 0.025.
    assert consistency.share.high == pytest.approx(0.975 ** (1 / 8))
    # Bradley-Terry of two arms: log odds 7 to 1, shared out around 0.
    assert found.strengths[0].strengths["nc"] == pytest.approx(math.log(7) / 2, abs=1e-5)
    assert not found.strengths[0].penalised and found.strengths[1].penalised
    # Krippendorff: one unit of four disagrees, 7 and 1 values: 1 - (8 - 1) * 1 / (7 * 1) = 0; 3 of 4 agree.
    assert found.agreement[0].alpha == pytest.approx(0) and found.agreement[0].agreeing == pytest.approx(0.75)
    assert found.agreement[1].alpha is None and found.agreement[1].agreeing == 1
    # Texture: both raters agree everywhere, 4 and 4 values: alpha 1.
    assert found.agreement[2].alpha == pytest.approx(1)
    # Left: consistency rater 0 on 2, rater 1 on items 2 only (item 0 went right): 1; quality 2 + 2; texture 8.
    assert (found.left.count, found.left.total) == (2 + 1 + 4 + 8, 24)
    assert found.seconds == 2 and found.raters == {"r0": 4, "r1": 4}
    assert conclusions(found)[0]["decision"] == "not enough data" and "2 raters on 4 clips" in "\n".join(
        as_lines(found)
    )


def test_the_papers_numbers_are_a_preference():
    # 15 raters on 18 samples, with the shares of the paper: 86.11 % is 232.5 of 270.
    generator = np.random.default_rng(5)
    votes = [
        vote(r, i, q, bool(generator.random() < share), (r + i) % 2 == 0)
        for q, share in zip(QUESTIONS, (0.8611, 0.7326, 0.7535), strict=True)
        for r in range(15)
        for i in range(18)
    ]
    found = analyze_votes(study_of(18), votes)
    assert [p.verdict for p in found.preferences] == ["arm"] * 3
    said = conclusions(found)[0]
    assert said["decision"] == "prefer" and said["headline"].startswith("Raters prefer nc to sdedit for consistency")
    swapped = analyze_votes(study_of(18), votes, control="nc")
    assert conclusions(swapped)[0]["decision"] == "keep"
    with pytest.raises(ValueError, match="its arms are sdedit, nc"):
        analyze_votes(study_of(18), votes, control="x")


def test_nothing_yet_and_one_vote():
    for votes in ([], [vote(0, 0, "quality", True, True)]):
        found = analyze_votes(study_of(4), votes)
        assert all(p.verdict == "too few" for p in found.preferences)
        assert as_data(found)["conclusions"][0]["decision"] == "not enough data" and list(as_lines(found))


def test_three_arms_are_ranked():
    # a beats b 9 to 3, b beats c 9 to 3, a beats c 27 to 3: odds 3, 3, 9 fit exactly: strengths log 3, 0, -log 3.
    votes = []
    for (winner, loser), wins in {("a", "b"): 9, ("b", "c"): 9, ("a", "c"): 27}.items():
        for number in range(wins + 3):
            choice = winner if number < wins else loser
            votes.append(Vote(f"r{number}", "p0", "p0", "quality", choice, winner, loser, 1.0))
    found = analyze_votes(study_of(1, ("a", "b", "c")), votes)
    strengths = found.strengths[1].strengths
    assert [strengths[arm] for arm in "abc"] == pytest.approx([math.log(3), 0, -math.log(3)], abs=1e-5)
    assert len(found.preferences) == 9 and found.comparisons == 3
    against = {(p.arm, p.control): p.share.count for p in found.preferences if p.question == "quality"}
    assert against == {("b", "a"): 3, ("c", "a"): 3, ("c", "b"): 3}


def test_tastes_of_raters_are_no_finding(monkeypatch):
    # No arm is better, but every rater has a taste: taken one by one, votes would be a finding far too often.
    monkeypatch.setattr(room, "RESAMPLES", 999)
    generator = np.random.default_rng(11)
    naive = grouped = 0
    for _ in range(200):
        taste = 1 / (1 + np.exp(-generator.normal(0, 1.5, (8, 1)) - generator.normal(0, 0.5, (1, 8))))
        answers = generator.random((8, 8)) < taste
        votes = [(str(r), str(i), bool(answers[r, i])) for r in range(8) for i in range(8)]
        # Two standard errors of 64 independent votes are 8 votes from 32.
        naive += abs(answers.sum() - 32) > 8
        grouped += clustered(votes).p < 0.05
    assert naive > 25 and grouped < 20


def test_clustered_needs_two_of_each_and_holds_the_share():
    assert clustered([("a", "p", True), ("a", "q", True)]) is None
    assert clustered([("a", "p", True), ("b", "p", True)]) is None
    found = clustered([(r, i, r != "a" or i != "p") for r in "abcdefgh" for i in "pqrstuvw"])
    assert found.low <= 63 / 64 <= found.high and found.p < 0.001


def test_pieces_of_one_clip_prefer_nothing():
    """Eight raters of one mind over eight pieces of one clip."""
    votes = [
        replace(vote(rater, item, question, True, item % 2 == 0), clip="camel")
        for rater in range(8)
        for item in range(8)
        for question in ("consistency", "quality", "texture")
    ]
    found = analyze_votes(study_of(8), votes)
    assert {p.verdict for p in found.preferences} == {"too few"}
    first = next(iter(as_lines(found)))
    assert first.startswith("Not enough clips to tell nc from sdedit: 8 raters on 1 clip")
    apart = [replace(v, clip=v.pair) for v in votes]
    assert {p.verdict for p in analyze_votes(study_of(8), apart).preferences} == {"arm"}
