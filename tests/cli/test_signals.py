"""Asked to end at any moment, a command leaves everything or nothing, and says which."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nc_refiner.cli.interrupts import undisturbed

from ..video.conftest import make_video, moving
from .conftest import FAST, PROGRAM, contents

OUTPUTS = {"out.mp4", "out.json", "out.receipt.json", "out.sdedit.mp4", "out.compare.mp4", "out.contact.png"}
SIGNALS = int(os.environ.get("NC_REFINER_MOMENTS", "6"))
"""At how many moments the command is asked to end; NC_REFINER_MOMENTS=20 asks longer."""
UNTOUCHED = "nc-refiner: interrupted; nothing was written, the input is as it was\n"


def _refine(folder: Path) -> subprocess.Popen[str]:
    command = [*PROGRAM, "refine", "in.mp4", "out.mp4", "--compare", *FAST]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _new_files(folder: Path) -> set[str]:
    return {name for name in contents(folder) if name != "in.mp4"}


@pytest.mark.slow
def test_sigterm_at_random_moments_leaves_nothing_or_everything(tmp_path):
    chance, lengths = random.Random(11), []
    seen = {"nothing": 0, "everything": 0}
    for number in range(SIGNALS + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        make_video(folder / "in.mp4", moving(4, 64, 64))
        began = time.monotonic()
        with _refine(folder) as running:
            if lengths:
                # Half of the signals into the last moments, where files take their places.
                share = chance.uniform(0.3, 1.0) if number % 2 else chance.uniform(0.9, 1.02)
                time.sleep(lengths[0] * share)
                running.send_signal(signal.SIGTERM)
            _, err = running.communicate(timeout=120)
        lengths.append(time.monotonic() - began)
        left = _new_files(folder)
        assert left in (set(), OUTPUTS), f"signal {number}: {sorted(left)}"
        seen["everything" if left else "nothing"] += 1
        if left:
            assert UNTOUCHED not in err
        else:
            assert running.returncode in (1, -signal.SIGTERM), err
            assert running.returncode != 1 or err.endswith(UNTOUCHED)
    assert seen["nothing"] and seen["everything"], seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_while_files_take_their_places(number):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with undisturbed():
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_two_refines_to_one_output(tmp_path):
    make_video(tmp_path / "in.mp4", moving(16, 64, 64))
    command = [*PROGRAM, "refine", "in.mp4", "out.mp4", "--num-inference-steps", "1000", "--strength", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None and "0 of 1003 steps" in first.stderr.readline()
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert second.returncode == 2 and "another refine is writing out.mp4" in second.stderr
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)
    assert any(name.endswith(".part") for name in contents(tmp_path)), "a killed run leaves its temporaries"
    done = subprocess.run(
        [*PROGRAM, "refine", "in.mp4", "out.mp4", "--max-frames", "2", *FAST],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(contents(tmp_path)) == {"in.mp4", "out.mp4", "out.json", "out.receipt.json"}


def test_an_interrupted_cascade_says_what_is_left(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "version: 1\nprompt: a\noutput: out\nbase: {type: embedded, frames: 2, height: 32, width: 32,"
        " num_inference_steps: 3}\nrefiner: {type: nc, num_inference_steps: 1000, strength: 1.0}\n",
        encoding="utf-8",
    )
    command = [*PROGRAM, "cascade", "a.yaml"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while "refiner, 0 of" not in (line := running.stderr.readline()):
            assert line
        running.send_signal(signal.SIGTERM)
        err = running.stderr.read()
    assert running.returncode == 1
    assert err.endswith("nc-refiner: interrupted; finished stages stay in out; --resume goes on with them\n")
