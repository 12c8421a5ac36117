"""`sweep` and `ab run` killed at ten random moments go on to the table of a run that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ...cli.conftest import PROGRAM, Call, call, contents  # noqa: F401

SWEEP = {
    "clips": "demo",
    "iterations": [0, 1, 2],
    "cutoffs": [0.5, 1.0],
    "strengths": [0.5],
    "seeds": [0, 1, 2, 3],
    "num_inference_steps": 6,
    "frames": 2,
    "height": 64,
    "metrics": ["mse", "ssim"],
}
EXPERIMENT = {
    "version": 1,
    "experiment": "tiny",
    "settings": {"strength": 0.5, "num_inference_steps": 6},
    "control": "sdedit",
    "arms": {"sdedit": "sdedit", "nc": {"refiner": "nc", "iterations": 2}},
    "clips": [{"path": "demo", "max_frames": 6, "height": 80, "pieces": {"frames": 1, "rows": 2, "columns": 2}}],
    "metrics": ["mse", "ssim", "evaluations", "content_loss"],
}


def killed(arguments: list[str], cells: Path, moments: random.Random) -> None:
    """Start the command and kill it: half the time anywhere, else a moment after it stored its next cell."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = len(list(cells.glob("*.json")))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*PROGRAM, *arguments], env=environment, **quiet) as running:
        ends = time.monotonic() + (moments.uniform(0.2, 6) if moments.random() < 0.5 else 120)
        while time.monotonic() < ends and running.poll() is None and len(list(cells.glob("*.json"))) <= before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.15))
        running.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep(call: Call, tmp_path: Path) -> None:  # noqa: F811
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    whole, broken, moments = tmp_path / "whole", tmp_path / "broken", random.Random(12)
    assert call("sweep", path, "--output", whole).code == 0
    for _ in range(10):
        killed(["sweep", str(path), "--output", str(broken)], broken / "cells", moments)
    assert not (broken / "table.parquet").exists(), "it was never let finish"
    assert call("sweep", path, "--output", broken).code == 0
    assert pq.read_table(whole / "table.parquet").equals(pq.read_table(broken / "table.parquet"))
    assert (whole / "report.md").read_bytes() == (broken / "report.md").read_bytes()
    assert {name for name in contents(whole) if name.startswith("cells")} <= contents(broken).keys()


@pytest.mark.slow
@pytest.mark.long
def test_an_experiment(call: Call, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "ab.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    whole, broken, moments = tmp_path / "whole", tmp_path / "broken", random.Random(13)
    assert call("ab", "run", path, "--output", whole, "--quiet").code == 0
    for _ in range(10):
        killed(["ab", "run", str(path), "--output", str(broken), "--quiet"], broken / "cells", moments)
    assert 0 < len(list(broken.glob("cells/*.json"))) < 48
    assert call("ab", "run", path, "--output", broken, "--quiet").code == 0
    one, two = (json.loads(call("ab", "analyze", folder, "--json").out) for folder in (whole, broken))
    assert one == two and one["comparisons"][0]["units"] == 1
    kept = {name: data for name, data in contents(whole).items() if name.endswith(".mp4")}
    assert len(kept) == 72 and {name: contents(broken).get(name) for name in kept} == kept
    assert not list(broken.rglob("*.part"))
