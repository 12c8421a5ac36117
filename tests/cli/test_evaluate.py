"""`nc-refiner evaluate`: files, folders, formats, refusals."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nc_refiner.evaluation import mse
from nc_refiner.evaluation.catalogue import DEFAULT
from nc_refiner.video import FrameReader

from ..evaluation.conftest import drifting, noisy, textured
from ..video.conftest import make_video
from .conftest import Call, contents, process

pytest.importorskip("skimage", reason="the evaluation extra is not installed")
pytest.importorskip("cv2", reason="the evaluation extra is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with references in `ref` and outputs in `a` and `b`."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name in ("ref", "a", "b"):
        (folder / name).mkdir()
    clip = textured(3)
    for name in ("one", "two"):
        make_video(folder / "ref" / f"{name}.mp4", clip)
        make_video(folder / "a" / f"{name}.mp4", noisy(clip, 0.1))
    make_video(folder / "b" / "one.mkv", noisy(clip, 0.3))
    make_video(folder / "b" / "other.mp4", clip)
    return folder


@pytest.fixture
def room(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them as the working folder."""
    for name, content in contents(source).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_of_files(call: Call, room: Path):
    outcome = call("evaluate", "ref/one.mp4", "a/one.mp4", "b/one.mkv", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found.keys() == {"results"} and len(found["results"]) == 2
    first, second = found["results"]
    assert (first["reference"], first["output"]) == ("ref/one.mp4", "a/one.mp4")
    assert tuple(first["metrics"]) == DEFAULT and all(isinstance(value, float) for value in first["metrics"].values())
    assert first["alignment"]["mode"] == "index" and first["alignment"]["frames"] == 3
    assert first["metrics"]["mse"] < second["metrics"]["mse"] and "per_frame" not in first
    frames = []
    for name in ("ref/one.mp4", "a/one.mp4"):
        with FrameReader(room / name, exact_colour=True) as reader:
            frames.append(torch.stack(list(reader)))
    assert first["metrics"]["mse"] == pytest.approx(float(mse(*frames).mean()))


def test_folders_are_matched_by_name(call: Call, room: Path):
    outcome = call("evaluate", "ref", "a", "b", "--metrics", "mse,ssim", "--json")
    pairs = [(entry["reference"], entry["output"]) for entry in json.loads(outcome.out)["results"]]
    assert pairs == [("ref/one.mp4", "a/one.mp4"), ("ref/one.mp4", "b/one.mkv"), ("ref/two.mp4", "a/two.mp4")]
    assert "note: b has no two.mp4" in outcome.err and "no partner for other.mp4 in b" in outcome.err


def test_means_by_folder_and_the_worst_clips(call: Call, room: Path):
    for folder in ("ref", "a"):
        (room / folder / "night").mkdir()
        for name in ("one", "three"):
            (room / folder / "night" / f"{name}.mp4").write_bytes((room / folder / "one.mp4").read_bytes())
    (room / "a" / "night" / "three.mp4").write_bytes((room / "b" / "one.mkv").read_bytes())
    arguments = ("evaluate", "ref", "a", "--metrics", "mse,spatial_frequency")
    found = json.loads(call(*arguments, "--json").out)
    mse_of = {entry["output"]: entry["metrics"]["mse"] for entry in found["results"]}
    assert len(mse_of) == 4
    whole, top, night = found["overview"]
    assert [one["segment"] for one in (whole, top, night)] == [None, ".", "night"]
    assert (whole["outputs"], whole["clips"], night["clips"]) == ("a", 4, 2)
    assert whole["metrics"]["mse"]["mean"] == pytest.approx(sum(mse_of.values()) / 4)
    assert whole["metrics"]["mse"]["low"] < whole["metrics"]["mse"]["mean"] < whole["metrics"]["mse"]["high"]
    assert whole["worst"]["mse"][0] == {"clip": "three.mp4", "value": max(mse_of.values())}
    assert len(whole["worst"]["mse"]) == 2 and night["metrics"]["mse"]["low"] is None
    assert "spatial_frequency" not in whole["worst"] and not night["worst"]
    shown = call(*arguments).out
    assert "mean of 4 clips, 95 % interval over clips" in shown and "folder night: mean of 2 clips" in shown
    assert "a: worst by MSE ×10⁻³: three.mp4 (" in shown
    assert "overview" not in json.loads(call("evaluate", "ref/one.mp4", "a/one.mp4", "--json").out)


def test_a_shifted_output_is_warned_of_and_aligned(call: Call, room: Path):
    clip = drifting(14)
    make_video(room / "long.mp4", clip, fps=8)
    make_video(room / "late.mp4", clip[4:], fps=8)
    arguments = ("evaluate", "long.mp4", "late.mp4", "--metrics", "mse")
    plain, aligned = call(*arguments), call(*arguments, "--align-time", "--html", "page.html")
    assert "note: the clips look shifted by 4 frames" in plain.out and "compare them with --align-time" in plain.out
    said = "aligned in time: every frame is compared with what the reference shows 4 frames later; without this offset"
    assert said in aligned.out and said in (room / "page.html").read_text(encoding="utf-8")
    found = json.loads(call(*arguments, "--align-time", "--json").out)["results"][0]
    assert (found["alignment"]["offset"], found["alignment"]["frames"]) == (4, 10)
    assert found["metrics"]["mse"] < json.loads(call(*arguments, "--json").out)["results"][0]["metrics"]["mse"] / 2


def test_csv_and_table(call: Call, room: Path):
    rows = list(csv.DictReader(io.StringIO(call("evaluate", "ref/one.mp4", "a/one.mp4", "--csv").out)))
    numbers = json.loads(call("evaluate", "ref/one.mp4", "a/one.mp4", "--json").out)["results"][0]
    assert len(rows) == 1 and float(rows[0]["ssim"]) == numbers["metrics"]["ssim"]
    assert float(rows[0]["reference_flicker"]) == numbers["reference_metrics"]["flicker"]
    outcome = call("evaluate", "ref/one.mp4", "a/one.mp4", "b/one.mkv")
    assert outcome.code == 0 and "one.mp4" in outcome.out and "one.mkv" in outcome.out
    assert f"{numbers['metrics']['mse'] * 1e3:.3f}" in outcome.out and "MSE_low" in outcome.out


def test_names_of_many_outputs_stay_whole(call: Call, room: Path):
    names = [f"a_rather_long_name_of_a_clip_{number}.mp4" for number in range(5)]
    for name in names:
        (room / name).write_bytes((room / "a" / "one.mp4").read_bytes())
    outcome = call("evaluate", "ref/one.mp4", *names, "--metrics", "mse")
    assert outcome.code == 0 and all(name in outcome.out for name in names)


def test_files_are_written_beside_the_table(call: Call, room: Path):
    arguments = ("evaluate", "ref/one.mp4", "a/one.mp4", "--metrics", "mse,flicker")
    outcome = call(*arguments, "--output", "n.json", "--per-frame", "--html", "r.html")
    assert outcome.code == 0 and "MSE" in outcome.out
    entry = json.loads((room / "n.json").read_text())["results"][0]
    assert len(entry["per_frame"]["mse"]) == 3 and entry["per_frame"]["flicker"][0] is None
    page = (room / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "default-src 'none'" in page and "data-left" in page
    line = call(*arguments, "--html", "r.html").line
    assert "r.html exists; move it or pass --overwrite" in line
    assert call(*arguments, "--output", "n.csv", "--html", "r.html", "--overwrite").code == 0
    assert (room / "n.csv").read_text().startswith("reference,output,mse,flicker")


def test_missing_weights_are_told_and_the_rest_measured(call: Call, room: Path):
    outcome = call("evaluate", "ref/one.mp4", "a/one.mp4", "--metrics", "mse,lpips", "--dover", "nowhere", "--json")
    assert outcome.code == 0
    entry = json.loads(outcome.out)["results"][0]
    assert entry["metrics"]["mse"] > 0 and entry["metrics"]["lpips"] is None and entry["metrics"]["dover"] is None
    told = [line for line in outcome.err.splitlines() if "not measured: " in line]
    assert len(told) == 2 and "--lpips-weights FILE" in told[0] and "nowhere" in told[1] and "--dover FOLDER" in told[1]
    line = call("evaluate", "ref/one.mp4", "a/one.mp4", "--metrics", "lpips").err.splitlines()[-1]
    assert "nothing could be measured: LPIPS needs" in line


def test_without_the_extra_the_basic_metrics_run(room: Path):
    script = (
        "import sys\n"
        "for name in ('skimage', 'cv2', 'jinja2'): sys.modules[name] = None\n"
        "from nc_refiner.cli.main import run; run()"
    )
    command = [sys.executable, "-c", script, "evaluate", "ref/one.mp4", "a/one.mp4"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=room)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["results"][0]["metrics"]
    absent = {name for name, value in values.items() if value is None}
    assert absent == {"delta_e", "warping_error"}
    assert done.stderr.count("pip install 'nc_refiner[evaluation]'") == 2
    before = contents(room)
    done = subprocess.run([*command, "--html", "r.html"], capture_output=True, text=True, cwd=room)
    assert done.returncode == 2 and "jinja2 is not installed" in done.stderr and contents(room) == before


def test_a_limit_on_embedded_video(call: Call, room: Path):
    outcome = call(
        "evaluate", "ref/one.mp4", "a/one.mp4", "--metrics", "mse", "--html", "r.html", "--html-megabytes", 0
    )
    assert outcome.code == 0 and outcome.err.count("is not embedded in the report") == 2


BAD = {
    "none.mp4 a/one.mp4": "none.mp4: no such file",
    "ref/one.mp4 none.mp4": "none.mp4: no such file",
    "ref a/one.mp4": "ref is a folder and a/one.mp4 a file",
    "ref/one.mp4 a": "ref/one.mp4 is a file and a a folder",
    "ref empty": "empty holds no video",
    "ref strange": "no file in strange has the name of one in ref",
    "ref twins": "twins holds both one.avi and one.mp4",
    "ref/one.mp4 text.mp4": "cannot be read as a video",
    "ref/one.mp4 a/one.mp4 --metrics sssim": "did you mean 'ssim'",
    "ref/one.mp4 a/one.mp4 --metrics ,": "no metric is named",
    "ref/one.mp4 a/one.mp4 --align sound": "must be one of auto, index, time",
    "ref/one.mp4 a/one.mp4 --json --csv": "both want standard output",
    "ref/one.mp4 a/one.mp4 --per-frame": "--per-frame goes with --json",
    "ref/one.mp4 a/one.mp4 --max-frames 0": "max_frames is 0",
    "ref/one.mp4 a/one.mp4 --output n.txt": "must end in .json or .csv",
    "ref/one.mp4 a/one.mp4 --html a/one.mp4": "must end in .html or .htm",
    "ref/one.mp4 a/one.mp4 --html nowhere/r.html": "does not exist; create it first",
    "ref/one.mp4 a/one.mp4 --html r.html --html-megabytes -1": "must be 0 or more",
    "ref/one.mp4 a/one.mp4 --html r.html --html-megabytes nan": "must be 0 or more",
    "ref/one.mp4": "Missing argument",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(call: Call, room: Path, arguments: str):
    for name in ("empty", "strange", "twins"):
        (room / name).mkdir()
    (room / "strange" / "x.mp4").write_bytes((room / "a" / "one.mp4").read_bytes())
    for ending in ("mp4", "avi"):
        (room / "twins" / f"one.{ending}").touch()
    (room / "text.mp4").write_text("not a video\n" * 100)
    before = contents(room)
    outcome = call("evaluate", *arguments.split())
    assert outcome.code == 2, outcome
    assert BAD[arguments] in outcome.line and contents(room) == before


def test_a_clip_that_breaks_off_leaves_nothing_behind(call: Call, room: Path):
    good = (room / "a" / "one.mp4").read_bytes()
    (room / "cut.mp4").write_bytes(good[: int(len(good) * 0.6)])
    before = contents(room)
    outcome = call("evaluate", "ref/one.mp4", "cut.mp4", "--html", "r.html", "--output", "n.json")
    assert outcome.code == 2 and contents(room) == before
    assert "cut.mp4" in outcome.err.splitlines()[-1] and "Traceback" not in outcome.err


def test_as_a_process(room: Path):
    done = process("evaluate", "ref/one.mp4", "a/one.mp4", "--metrics", "mse", "--json", cwd=room)
    assert done.returncode == 0 and json.loads(done.stdout)["results"][0]["metrics"]["mse"] > 0
