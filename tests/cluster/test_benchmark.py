"""The benchmark of batches at tiny size: what it computes, never how fast."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from benchmarks import ray as batches


@pytest.mark.slow
@pytest.mark.long
def test_the_benchmark_of_batches():
    found = batches.measure(batches.CHEAP, 5, 1)
    assert found["start"] > 0 and found["seconds"] > 0 and found["driver"] > 50 and found["workers"] > 50
    with pytest.raises(ValueError, match="base"):
        batches.measure({"base": {"type": "embedded", "frames": 0}}, 3, 0)


def test_its_tables():
    got = {"start": 1.0, "seconds": 2.0, "driver": 300.0, "workers": 600.0}
    real = {"0": got, "1": got, "2": {**got, "seconds": 1.0}}
    found = {"real": real, "cheap": {"0": got, "1": {**got, "seconds": 2.1}}, "memory": {"200": got}}
    shown = argparse.Namespace(clips=4, cheap_clips=4)
    text = batches._tables({**found, "added_seconds_per_clip": 0.1}, shown)
    assert "2 on Ray" in text and "2.00" in text and "Ray adds" in text and "100" in text and "Peak memory" in text
