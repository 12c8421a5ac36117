"""`nc-refiner sweep`: the shipped config, folders of clips, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from nc_refiner.sweeps import load_config

from ..evaluation.conftest import noisy, textured
from ..video.conftest import make_video
from .conftest import PROGRAM, Call, contents

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "configs" / "sweep_embedded.yaml"
FAST = {
    "iterations": [0, 1],
    "strengths": [0.4],
    "num_inference_steps": 8,
    "frames": 2,
    "metrics": ["mse", "ssim", "mse_low", "spatial_frequency"],
}


@pytest.fixture
def room(tmp_path: Path) -> Path:
    for name, seed in (("a.mp4", 1), ("b.mp4", 2)):
        clean = textured(2, 32, 48)
        for folder, frames in (("clips", noisy(clean, 0.1, seed)), ("originals", clean)):
            (tmp_path / folder).mkdir(exist_ok=True)
            make_video(tmp_path / folder / name, frames, fps=8)
    return tmp_path


def write(room: Path, **changes: object) -> Path:
    given = {"clips": "clips", **FAST, **changes}
    path = room / "my.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in given.items() if value is not None}))
    return path


def refused(call: Call, room: Path, path: Path, *arguments: object) -> str:
    before = contents(room)
    outcome = call("sweep", path, "--output", room / "out", *arguments)
    assert outcome.code == 2, outcome
    assert contents(room) == before
    return outcome.line


def test_a_folder_with_originals(call: Call, room: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    outcome = call("sweep", write(room, originals="originals"), "--output", room / "out", "--json")
    assert outcome.code == 0, outcome
    report = json.loads(outcome.out)
    assert report["clips"] == 2 and report["rows"] == 4
    table = pq.read_table(room / "out" / "table.parquet").to_pylist()
    assert [(row["clip"], row["label"]) for row in table] == [
        ("a", "SDEdit"), ("a", "NC, N = 1, ν = 1"), ("b", "SDEdit"), ("b", "NC, N = 1, ν = 1"),
    ]  # fmt: skip
    assert all(row["psnr_to_original"] > 10 for row in table)
    page = (room / "out" / "report.md").read_text()
    for name in ("tradeoff.png", "content_loss.png"):
        assert f"({name})" in page and (room / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert not [path for path in (room / "out").rglob("*.part")]


def test_killed_it_goes_on_to_the_same_table(call: Call, room: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    config = write(room, iterations=[0, 1, 2], cutoffs=[0.5, 1.0], metrics=["mse"])
    assert call("sweep", config, "--output", room / "whole").code == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [*PROGRAM, "sweep", str(config), "--output", str(room / "out")], env=environment, stderr=subprocess.DEVNULL
    )
    cells = room / "out" / "cells"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None and len(list(cells.glob("*.json"))) < 3:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(list(cells.glob("*.json"))) >= 3
    assert call("sweep", config, "--output", room / "out").code == 0
    one, two = (pq.read_table(room / name / "table.parquet") for name in ("whole", "out"))
    assert one.equals(two)
    assert (room / "whole" / "report.md").read_text() == (room / "out" / "report.md").read_text()


def test_unknown_keys_name_the_nearest(call: Call, room: Path):
    line = refused(call, room, write(room, iteration=[1]))
    assert "my.yaml:3: unknown key 'iteration'; did you mean 'iterations'?" in line
    line = refused(call, room, write(room, refiners=[{"name": "embedded", "option": {}}]))
    assert "unknown key 'option' in refiners.0; did you mean 'options'?" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iterations": [-1]}, "iterations.0 is -1; it must be at least 0"),
        ({"cutoffs": [1.5]}, "cutoffs.0"),
        ({"strengths": [0]}, "strengths.0"),
        ({"strengths": [0.01]}, "leaves no step to run"),
        ({"version": 2}, "version"),
        ({"clips": None}, "needs the key 'clips'"),
        ({"clips": "nowhere"}, "is not a folder"),
        ({"clips": "."}, "holds no video"),
        ({"baselines": ["ivlr"]}, "did you mean 'ilvr'?"),
        ({"restorers": ["basicvs"]}, "did you mean 'basicvsr'?"),
        ({"restorers": [{"name": "basicvsr", "options": {"weights": "red"}}]}, "there are: reds, vimeo_bi, vimeo_bd"),
        ({"restorers": [{"name": "basicvsr", "option": {}}]}, "did you mean 'options'?"),
        ({"metrics": ["mses"]}, "did you mean 'mse'?"),
        ({"refiners": "embeded"}, "did you mean 'embedded'?"),
        ({"refiners": [{"name": "embedded", "options": {"wheels": 1}}]}, "refiners: embedded:"),
        ({"originals": "clips2"}, "has no a.mp4"),
        ({"frames": 0}, "frames"),
    ],
)
def test_bad_configs(call: Call, room: Path, changes, words):
    assert words in refused(call, room, write(room, **changes))


def test_a_restorer_without_its_weights_is_told_first(call: Call, room: Path):
    pytest.importorskip("diffusers")
    options = {"model": str(room / "nothing" / "x4")}
    line = refused(call, room, write(room, restorers=[{"name": "x4_upscaler", "options": options}]))
    assert "are not here" in line and "hf download" in line


def test_bad_files(call: Call, room: Path):
    assert "nothing.yaml" in refused(call, room, room / "nothing.yaml")
    broken = room / "broken.yaml"
    broken.write_text("clips: [")
    assert "not valid YAML" in refused(call, room, broken)
    broken.write_text("- a")
    assert "holds a list; needed: keys with values" in refused(call, room, broken)


def test_a_folder_with_other_things_is_left_alone(call: Call, room: Path):
    (room / "out").mkdir()
    (room / "out" / "mine.txt").write_text("keep")
    assert "holds other things" in refused(call, room, write(room))


def test_the_shipped_config_is_valid_and_covers_the_baselines():
    config = load_config(SHIPPED)
    assert config.clips == "demo"
    assert set(config.baselines) == {"input", "ilvr", "inversion", "renoise", "matched_sdedit"}


@pytest.mark.slow
def test_the_shipped_config_runs_on_a_smaller_clip(call: Call, tmp_path: Path):
    pytest.importorskip("pyarrow")
    smaller = tmp_path / "smaller.yaml"
    smaller.write_text(SHIPPED.read_text().replace("frames: 4", "frames: 2").replace("height: 96", "height: 48"))
    outcome = call("sweep", smaller, "--output", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["rows"] == 29
    page = (tmp_path / "out" / "report.md").read_text()
    assert "Matched strengths" in page and "inversion" in page
