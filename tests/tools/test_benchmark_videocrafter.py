"""The VideoCrafter benchmark at tiny size: what it counts, what it refuses."""

from __future__ import annotations

import json

import benchmark_videocrafter


def test_counts_exactly_n_guided_evaluations_more(tmp_path):
    assert benchmark_videocrafter.main(["--dry-run", "--steps", "10", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]
    stock = rows[0]["evaluations"]
    assert [row["evaluations"] - stock for row in rows] == [0, 2, 4, 6] and stock == 2 * 6


def test_says_what_is_missing(capsys):
    assert benchmark_videocrafter.main([]) == 2
    assert benchmark_videocrafter.main(["--dry-run", "--steps", "3"]) == 2
    assert "num_inference_steps" in capsys.readouterr().err
