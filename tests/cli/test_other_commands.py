"""`doctor`, `refiners`, help; and how the process treats signals and pipes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import nc_refiner
from nc_refiner.adapters import registry
from nc_refiner.cli.progress import progress

from ..video.conftest import make_video, moving
from .conftest import PROGRAM, Call, contents, process


def test_help(call: Call) -> None:
    for arguments in ((), ("--help",)):
        outcome = call(*arguments)
        assert outcome.code == 0 and outcome.err == ""
        assert all(name in outcome.out for name in ("refine", "doctor", "refiners"))
    outcome = call("refine", "--help")
    options = ("--iterations", "--cutoff", "--strength", "--compare", "--json", "--from-receipt", "--demo")
    assert outcome.code == 0 and all(name in outcome.out for name in options)


def test_doctor(call: Call) -> None:
    outcome = call("doctor")
    assert outcome.code == 0 and outcome.err == ""
    assert re.search(r"^ *embedded +ready$", outcome.out, re.M) and re.search(r"^RAM .*GiB", outcome.out, re.M)
    report = json.loads(call("doctor", "--json").out)
    assert report["refiners"]["embedded"] == "ready" and report["packages"]["torch"]["version"]
    assert report["device"] and report["versions"]["nc_refiner"]
    assert "nc-refiner refine --demo" in report["next"][0]
    assert outcome.out.rstrip().partition("\nnext\n")[2].startswith("  See it work")


def test_doctor_without_packages(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", nothing)
    outcome = call("doctor")
    assert outcome.code == 1 and outcome.err == ""
    assert outcome.out.partition("\nrefiners")[0].count("not installed") == 7
    report = json.loads(call("doctor", "--json").out)
    assert all(entry["version"] is None for entry in report["packages"].values())
    assert report["next"] == ["Install what is missing: pip install torch safetensors av"]


def test_doctor_and_refiners_with_broken_adapters(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        """A host that is not there."""
        raise ImportError("No module named 'host'\ninstall it")

    class Point:
        def load(self) -> None:
            raise RuntimeError("its module\ncannot be loaded")

    def needy(pipe: object) -> None:
        """Wraps a pipeline."""

    monkeypatch.setattr(registry, "_registered", {**registry._registered, "host": missing, "needy": needy})
    monkeypatch.setattr(registry, "_entry_points", lambda: {"third": Point()})
    found = json.loads(call("doctor", "--json").out)["refiners"]
    assert found["embedded"] == "ready" and found["host"].startswith("not usable: No module named 'host'")
    assert "pipe" in found["needy"] and found["third"] == "not usable: its module cannot be loaded"
    outcome = call("refiners")
    names = [line for line in outcome.out.splitlines() if not line.startswith(" ")]
    assert outcome.code == 0 and len(names) == len(found)
    assert "A host that is not there." in outcome.out and "not usable: its module" in outcome.out
    line = call("refine", "in.mp4", "out.mp4", "--refiner", "needy").line
    assert "no such file" in line


def test_an_adapter_that_needs_options(call: Call, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def needy(pipe: object) -> None:
        """Wraps a pipeline."""

    monkeypatch.setattr(registry, "_registered", {**registry._registered, "needy": needy})
    for options in ((), ("--device", "cpu")):
        outcome = call("refine", tiny, tmp_path / "out.mp4", "--refiner", "needy", *options)
        assert outcome.code == 2 and "needy cannot be built here" in outcome.line
    assert contents(tmp_path) == {}


def test_refiners(call: Call) -> None:
    assert re.search(r"^embedded +\S", call("refiners").out, re.M)
    assert "embedded" in json.loads(call("refiners", "--json").out)["refiners"]


def test_progress_lines_name_the_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 30.0])
    monkeypatch.setattr("nc_refiner.cli.progress.time.monotonic", lambda: next(clock))
    with progress(8) as advance:
        for stage in ("calibrate", "calibrate", "denoise", "denoise"):
            advance(stage)
    with progress(3, shown=False) as advance:
        advance("denoise")
    assert capsys.readouterr().err.splitlines() == [
        "nc-refiner: refining, 0 of 8 steps",
        "nc-refiner: calibrate, 2 of 8 steps, about 33 s left",
        "nc-refiner: denoise, 4 of 8 steps, about 30 s left",
    ]


def test_the_remaining_time_follows_the_work_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 2 s a frame: 16 frames come at once, and frames of a second clip are a tenth of the work."""
    clock = iter([0.0, 32.0, 64.0, 67.2, 70.4, 73.6, 76.8])
    monkeypatch.setattr("nc_refiner.cli.progress.time.monotonic", lambda: next(clock))
    with progress(64, what="measuring", unit="frame", work=352.0) as advance:
        for work in (160.0, 160.0, 16.0, 16.0):
            advance("one", 16, work)
    assert capsys.readouterr().err.splitlines() == [
        "nc-refiner: measuring, 0 of 64 frames",
        "nc-refiner: one, 16 of 64 frames, about 38 s left",
        "nc-refiner: one, 32 of 64 frames, about 6 s left",
    ]


def test_what_was_done_before_says_nothing_of_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed run: 90 steps are there at once, then each takes 20 s."""
    clock = iter([0.0, *[0.0] * 90, *[20.0 * (i + 1) for i in range(8)]])
    monkeypatch.setattr("nc_refiner.cli.progress.time.monotonic", lambda: next(clock))
    with progress(100) as advance:
        for _ in range(98):
            advance("clip")
    assert capsys.readouterr().err.splitlines()[-1] == "nc-refiner: clip, 98 of 100 steps, about 40 s left"


def test_the_bar_on_a_terminal_goes_with_a_failed_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress(2) as advance:
        advance("denoise")
    assert "2/2" in capsys.readouterr().err
    with pytest.raises(ValueError, match="model"), progress(2) as advance:
        raise ValueError("model")
    erase_line = "\x1b[2K"
    assert capsys.readouterr().err.endswith(erase_line)


COMMANDS = sorted(json.loads((Path(__file__).parents[1] / "pins" / "public.json").read_text("utf-8"))["commands"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    make_video(tmp_path / "in.mp4", moving(16, 64, 64))
    before = contents(tmp_path)
    command = [*PROGRAM, "refine", "in.mp4", "out.mp4", "--compare", "--num-inference-steps", "1000", "--strength", "1"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that were started in the background of a shell have it ignored, and their children inherit that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as running:
        assert running.stderr is not None and "0 of 2003 steps" in running.stderr.readline()
        time.sleep(0.5)
        assert len(contents(tmp_path)) > len(before), "the run has not begun to write"
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1 and out == ""
    assert err == "nc-refiner: interrupted; nothing was written, the input is as it was\n"
    assert contents(tmp_path) == before


def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen([*PROGRAM, "refiners"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        err = running.stderr.read()
    assert running.returncode == 1 and err == ""


def test_the_console_script(tmp_path: Path) -> None:
    done = process(cwd=tmp_path)
    assert done.returncode == 0 and "Usage: nc-refiner" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_of_80_columns(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = call(*command.split()[1:], "--help")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "<bool>" not in outcome.out and "…" not in outcome.out.replace("OUTPUT…", "")


def test_the_version_is_told(call: Call) -> None:
    assert call("--version").out == f"nc-refiner {nc_refiner.__version__}\n"


@pytest.mark.parametrize("command", ["doctor", "refiners"])
def test_tables_fit_a_terminal_of_80_columns(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call(command).out.splitlines()
    # A command to copy stays whole.
    assert all(len(line) <= 80 or "://" in line or " " not in line.strip() for line in lines), lines
