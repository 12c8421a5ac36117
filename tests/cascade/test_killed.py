"""Killed at any moment, a run goes on to the very files of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nc_refiner.cascade.records import StageFolder
from nc_refiner.video import probe

from .conftest import KINDS, clips, folders, run

PROGRAM = [sys.executable, "-c", "from nc_refiner.cli.main import run; run()"]
FOUR = """version: 1
prompt: [one, two, three, four]
seed: 5
base: {type: embedded, frames: 3, height: 32, width: 48, num_inference_steps: 4}
interpolation: {type: blend, factor: 2}
refiner: {type: nc, iterations: 1, num_inference_steps: 4, strength: 0.5}
"""
KILLS = int(os.environ.get("NC_REFINER_MOMENTS", "6"))
"""How often the run is killed; NC_REFINER_MOMENTS=20 kills longer."""


def everything_named_is_whole(output: Path) -> None:
    """What stands under its final name can be read; what has a record is what the record says."""
    for path in output.rglob("*.mp4"):
        if not path.name.startswith("."):
            probe(path)
    for path in output.rglob("*.done.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert StageFolder(path.parent, record["stage"]).finished(record["fingerprint"]) is not None


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    config = tmp_path / "four.yaml"
    config.write_text(FOUR, encoding="utf-8")
    run(config, tmp_path / "whole")
    wanted = clips(tmp_path / "whole")
    assert len(wanted) == 4 * (2 * len(KINDS) + 1)
    out, chance = tmp_path / "out", random.Random(7)
    killed, began = 0, time.monotonic()
    # The time that one undisturbed start to end takes as a process, import included, spreads the kills over all of it.
    subprocess.run(
        [*PROGRAM, "cascade", str(config), "--output", str(tmp_path / "timed")], check=True, capture_output=True
    )
    length = time.monotonic() - began
    while killed < KILLS:
        with subprocess.Popen(
            [*PROGRAM, "cascade", str(config), "--output", str(out), "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(length * chance.uniform(0.2, 1.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
        killed += 1
        if out.exists():
            everything_named_is_whole(out)
            if killed % 3 == 0:
                # The next kills must find work to disturb.
                for folder in folders(out)[::2]:
                    StageFolder(folder, "base").record.unlink(missing_ok=True)
    done = subprocess.run(
        [*PROGRAM, "cascade", str(config), "--output", str(out), "--resume"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert clips(out) == wanted
    assert not [path for path in out.rglob("*") if path.name.startswith(".scratch-")]
