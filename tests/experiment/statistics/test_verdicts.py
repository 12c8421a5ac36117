"""What the analysis says in words agrees with its numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nc_refiner.experiment.reports.words import conclude
from nc_refiner.experiment.statistics.analysis import Analysis, Options, analyze
from nc_refiner.experiment.statistics.observations import Exposure, Observation


def rows(differences: np.ndarray, metric: str = "mse") -> list[Observation]:
    base = np.linspace(1, 2, len(differences))
    return [
        Observation("e", f"u{i}", arm, metric, float(value), pair=f"u{i}")
        for i, (b, d) in enumerate(zip(base, differences, strict=True))
        for arm, value in (("sdedit", b), ("nc", b + d))
    ]


def decided(observations: list[Observation], **options: object) -> tuple[Analysis, str, str]:
    analysis = analyze(observations, Options("sdedit", **options))  # type: ignore[arg-type]
    conclusion = conclude(analysis)[0]
    return analysis, conclusion.decision, conclusion.headline


NOISE = np.random.default_rng(0).standard_normal(40)
NOISE -= NOISE.mean()


@pytest.mark.parametrize("sequential", [False, True])
def test_better_worse_and_not_enough_data(sequential: bool) -> None:
    analysis, decision, headline = decided(rows(NOISE - 1.5), sequential=sequential)
    assert decision == "prefer" and headline.startswith("Prefer nc") and analysis.comparisons[0].difference < 0
    assert decided(rows(NOISE + 1.5), sequential=sequential)[1] == "keep"
    _, decision, headline = decided(rows(NOISE), sequential=sequential)
    assert decision == "not enough data" and headline.startswith("Not enough data")
    _, decision, headline = decided(rows(NOISE[:5] - 100), sequential=sequential)
    assert decision == "not enough data" and "at least 8" in headline


def test_higher_is_better_turns_the_verdict_round() -> None:
    assert decided(rows(NOISE + 1.5, "ssim"))[1] == "prefer" and decided(rows(NOISE - 1.5, "ssim"))[1] == "keep"
    assert analyze(rows(NOISE + 1.5, "spatial_frequency"), Options("sdedit")).comparisons[0].verdict == "different"


def test_guardrails_hold_back_a_better_arm() -> None:
    better = rows(NOISE - 1.5)
    slow, fast = rows(np.full(40, 1.0) + 0.01 * NOISE, "seconds"), rows(0.01 * NOISE, "seconds")
    assert decided(better + slow, primary="mse", guardrails={"seconds": "1.2x"})[1] == "keep"
    assert decided(better + fast, primary="mse", guardrails={"seconds": "1.2x"})[1] == "prefer"
    assert decided(better + fast[:6], primary="mse", guardrails={"seconds": 0.0001})[1] == "not enough data"
    analysis, decision, _ = decided(better, primary="mse", guardrails={"seconds": "1.2x"})
    assert decision == "not enough data" and any("not measured" in note for note in analysis.notes)
    with pytest.raises(ValueError, match="neither a ratio"):
        decided(better + fast, guardrails={"seconds": "fast"})


def test_a_wrong_share_of_units_decides_nothing() -> None:
    exposures = [Exposure("e", f"{arm}{i}", arm, i, 0.5) for arm, n in (("sdedit", 700), ("nc", 300)) for i in range(n)]
    analysis = analyze(rows(NOISE - 1.5), Options("sdedit"), exposures)
    assert conclude(analysis)[0].decision == "invalid"


def test_live_traffic_and_rare_errors() -> None:
    rng = np.random.default_rng(1)
    live = [
        Observation("e", f"u{i}", arm, metric, value, at=float(i))
        for i, arm in enumerate(rng.choice(["sdedit", "nc"], 3000))
        for metric, value in (
            ("seconds", float(rng.lognormal(0, 0.3) + (arm == "nc") * -0.4)),
            ("error", float(rng.random() < (0.2 if arm == "nc" else 0.0))),
        )
    ]
    analysis, decision, _ = decided(live, primary="seconds", sequential=True, guardrails={"error": 0.05})
    found = {c.metric.name: c for c in analysis.comparisons}
    assert not found["seconds"].sample.paired and found["seconds"].verdict == "better"
    assert analysis.guardrails[0].verdict == "violated" and decision == "keep"
    assert analysis.guardrails[0].interval.low > 0.05


def test_small_enough_to_be_equal() -> None:
    assert decided(rows(0.01 * NOISE), smallest_effect={"mse": 0.1})[1] == "equivalent"


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        analyze([], Options("sdedit"))
    with pytest.raises(ValueError, match="control 'base'"):
        analyze(rows(NOISE), Options("base"))
