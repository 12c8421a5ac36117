"""Who is given an arm is who counts: requests of one user are not independent of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nc_refiner.experiment import ABPipeline
from nc_refiner.experiment.offline.analyze import analyze_database
from nc_refiner.experiment.statistics.analysis import analyze
from nc_refiner.experiment.statistics.observations import Observation
from nc_refiner.experiment.statistics.options import Options

USERS, REQUESTS = 40, 6


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_the_store_is_analysed_by_user(tmp_path: Path, mode: str) -> None:
    arms = {"control": lambda x: x, "nc": lambda x: x + 1}
    database = tmp_path / "live.db"
    with ABPipeline(arms, "users", store=database, mode=mode, queue=USERS * REQUESTS) as ab:
        for _ in range(REQUESTS):
            for user in range(USERS):
                ab(user, unit=f"user-{user}")
        assert ab.wait()
    analysis = analyze_database(str(database), "users")
    seconds = next(c for c in analysis.comparisons if c.metric.name == "seconds")
    assert seconds.sample.paired == (mode == "shadow")
    assert set(seconds.sample.units) == {f"user-{user}" for user in range(USERS)} and not seconds.sample.dropped
    if mode == "live":
        assert analysis.sample_ratio is not None and sum(analysis.sample_ratio.counts.values()) == USERS
        assert len(seconds.sample.arm) + len(seconds.sample.control) == USERS


def requests(rng: np.random.Generator, by_user: bool) -> list[Observation]:
    """Equal arms; users differ far more than the requests of one, and keep their arm."""
    return [
        Observation("e", user if by_user else f"{user}-{request}", arm, "seconds", float(level + rng.normal(0, 0.3)))
        for user, arm, level in ((f"u{i}", ("control", "nc")[i % 2], rng.standard_normal()) for i in range(USERS))
        for request in range(REQUESTS)
    ]


def test_equal_arms_are_not_told_apart_by_busy_users() -> None:
    def decided(by_user: bool) -> int:
        rng = np.random.default_rng(0)
        found = (analyze(requests(rng, by_user), Options("control")).comparisons[0] for _ in range(60))
        return sum(c.verdict in ("better", "worse") for c in found)

    # Nominally 5 %: 0 to 10 of 60 with probability above 0.999. Requests for units would decide every third time.
    assert decided(True) <= 10 < 15 < decided(False)
