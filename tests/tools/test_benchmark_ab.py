"""The A/B benchmark at tiny size: what it reports, never how fast."""

from __future__ import annotations

import json

import benchmark


def test_every_variant_is_reported_against_the_bar(capsys):
    assert benchmark.main(["ab", "--requests", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 4
    assert all(0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in found["rows"])
    assert found["met"] == all(row["median_ms"] < found["bar_ms"] for row in found["rows"])
    assert benchmark.main(["ab", "--requests", "20"]) == 0
    text = capsys.readouterr().out
    assert "bar: median below 0.2 ms" in text and max(map(len, text.splitlines())) <= 90


def test_no_requests_are_refused(capsys):
    assert benchmark.main(["ab", "--requests", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
