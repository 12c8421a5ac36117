"""One video on several devices: `wrap` under diffusers' own context parallelism, on two processes of a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_wrapped_pipeline_gives_the_same_on_two_ranks_as_in_one_process(tmp_path):
    script, output = Path(__file__).with_name("two_ranks.py"), tmp_path / "found.json"
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*start, str(output)], capture_output=True, text=True, timeout=570, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(output.read_text(encoding="utf-8"))
    assert {(case["iterations"], case["mode"]) for case in found["cases"]} == {
        (None, "auto"), (0, "auto"), (3, "auto"), (3, "replay")
    }  # fmt: skip
    for case in found["cases"]:
        assert case["share_of_tokens"] == 0.5, "the video was not shared out"
        assert case["difference"] < 1e-5, case
        assert case["between_ranks"] == 0, case
        assert case["evaluations"] == case["evaluations_alone"], case
    # The comparison can tell: calibrating changes the result, and so do ranks that start from other noise.
    assert found["calibration_changes"] > 1e-2
    assert found["own_seeds"] > 1e-2
