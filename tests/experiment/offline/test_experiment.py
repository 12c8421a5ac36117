"""`nc-refiner ab` end to end at small size: run, killed and resumed, analysed, reported, planned."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS
from nc_refiner.evaluation import clipped_shift, delta_e, flicker, saturation_shift, warping_error
from nc_refiner.evaluation.catalogue import DEFAULT, FIDELITY
from nc_refiner.evaluation.measure import measure_frames
from nc_refiner.experiment.offline.config import load_config
from nc_refiner.experiment.offline.results import Results, read_results

from ...cli.conftest import PROGRAM, Call, call, contents  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_model")

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
ARMS = {"sdedit": "sdedit", "nc": {"refiner": "nc", "iterations": 2}}


def experiment(folder: Path, **changes: object) -> Path:
    """A file with 8 units of one frame each and four steps."""
    data = {
        "version": 1,
        "experiment": "tiny",
        "settings": {"strength": 0.5, "num_inference_steps": 4},
        "control": "sdedit",
        "arms": ARMS,
        "clips": [{"path": "demo", "max_frames": 2, "height": 80, "pieces": {"frames": 1, "rows": 2, "columns": 2}}],
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def steady(folder: Path) -> dict[tuple[str, int, str], dict[str, float]]:
    """Everything measured but times."""
    records = read_results(folder).records
    return {key: {m: v for m, v in r["metrics"].items() if m != "seconds"} for key, r in records.items()}


UNLEARNED = [name for name in DEFAULT if name not in (*FIDELITY, "spatial_frequency")]


def test_colour_and_steadiness_are_what_evaluate_measures() -> None:
    generator = torch.Generator().manual_seed(1)
    reference = torch.rand(12, 3, 4, 5, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    output = (0.7 * reference + 0.3 * torch.rand(reference.shape, generator=generator)).clamp(0, 1)
    found = measure_frames(reference, output, UNLEARNED)
    assert list(found) == UNLEARNED == ["delta_e", "saturation_shift", "clipped_shift", "flicker", "warping_error"]
    assert found["delta_e"] == pytest.approx(float(delta_e(reference, output).mean()))
    assert found["saturation_shift"] == pytest.approx(float(saturation_shift(reference, output).mean()))
    assert found["clipped_shift"] == pytest.approx(float(clipped_shift(reference, output).mean()))
    assert found["flicker"] == pytest.approx(float(flicker(output).mean()))
    assert found["warping_error"] == pytest.approx(float(warping_error(reference, output).nanmean()))
    tiny = measure_frames(reference[:1, :, :8], output[:1, :, :8], UNLEARNED)
    assert [name for name, value in tiny.items() if value is not None] == UNLEARNED[:3]


def test_an_experiment_measures_what_evaluate_does(call: Call, tmp_path: Path) -> None:  # noqa: F811
    clips = [{"path": "demo", "max_frames": 2, "height": 80, "pieces": {"rows": 2, "columns": 2}}]
    path = experiment(tmp_path, metrics=["mse", *UNLEARNED], clips=clips, guardrails={"flicker": "3x", "delta_e": 5})
    out = tmp_path / "out"
    assert call("ab", "run", path, "--output", out, "--quiet").code == 0
    assert all(set(values) == {"mse", "mse_to_original", *UNLEARNED} for values in steady(out).values())
    told = call("ab", "analyze", out)
    assert told.code == 0 and "delta_e" in told.out, told.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["mse", "lpips"]}, "weights: {lpips: PATH}"),
        ({"metrics": ["mse", "lpips"], "weights": {"lpips": "none.pth"}}, "none.pth"),
        ({"metrics": ["mse", "delta"]}, "did you mean 'delta_e'?"),
        ({"metrics": ["ssim", "seconds"], "primary": "seconds_to_original"}, "primary is 'seconds_to_original'"),
    ],
)
def test_metrics_that_cannot_be_measured_are_refused_first(
    call: Call,  # noqa: F811
    tmp_path: Path,
    changes: dict[str, object],
    words: str,
) -> None:
    outcome = call("ab", "run", experiment(tmp_path, **changes), "--output", tmp_path / "out", "--quiet")
    assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1, outcome.err
    assert not (tmp_path / "out").exists()


def test_run_analyze_report_plan(call: Call, tmp_path: Path, global_rng_untouched: None) -> None:  # noqa: F811
    clips = [{"path": "demo", "max_frames": 1, "height": 80, "name": f"c{i}"} for i in range(8)]
    path, out, html = experiment(tmp_path, clips=clips), tmp_path / "out", tmp_path / "report.html"
    outcome = call("ab", "run", path, "--output", out, "--quiet", "--json")
    assert outcome.code == 0 and json.loads(outcome.out)["made"] == 16, outcome.err
    assert json.loads(call("ab", "run", path, "--output", out, "--quiet", "--json").out)["made"] == 0
    outcome = call("ab", "analyze", out, "--json", "--html", html)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    mse = next(c for c in found["comparisons"] if c["metric"] == "mse")
    assert (
        mse["paired"] and mse["units"] == 8 and mse["interval"]["low"] <= mse["difference"] <= mse["interval"]["high"]
    )
    assert found["conclusions"][0]["decision"] == {"better": "prefer", "worse": "keep"}.get(
        mse["verdict"], "not enough data"
    )
    evaluations = next(c for c in found["comparisons"] if c["metric"] == "evaluations")
    assert evaluations["difference"] == 1 and evaluations["mean_control"] == 2
    text = html.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and '<script type="text/plain" id="video-0">' in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert found["conclusions"][0]["headline"] in text
    outcome = call("ab", "plan", "--pilot", out, "--effect", "0.0001", "--json")
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    assert plan["cautious"]["units"] >= plan["units"] >= 8, "what the analysis decides with"


def test_pieces_of_one_clip_are_one_clip(call: Call, tmp_path: Path) -> None:  # noqa: F811
    out, html = tmp_path / "out", tmp_path / "report.html"
    assert call("ab", "run", experiment(tmp_path), "--output", out, "--quiet").code == 0
    text = call("ab", "analyze", out, "--html", html).out
    first = "Not enough clips: 1 clip; at least 8 are needed to say anything."
    assert text.splitlines()[0] == first and first in html.read_text(encoding="utf-8")
    assert "Each clip's value is the mean over its pieces" in text
    outcome = call("ab", "plan", "--pilot", out)
    assert outcome.code == 2 and "the pilot has 1 clip with mse" in outcome.line


@pytest.mark.slow
def test_the_shipped_experiment_says_that_one_clip_decides_nothing(call: Call, tmp_path: Path) -> None:  # noqa: F811
    """Its clip and pieces, of one block and in fewer steps."""
    data = yaml.safe_load((CONFIGS / "ab_embedded.yaml").read_text(encoding="utf-8"))
    data |= {"settings": {"strength": 0.4, "num_inference_steps": 3}, "seeds": 1, "keep_clips": "none"}
    data["clips"][0]["max_frames"] = 4
    path, out, html = tmp_path / "few.yaml", tmp_path / "out", tmp_path / "report.html"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert call("ab", "run", path, "--output", out, "--quiet").code == 0
    text = call("ab", "analyze", out, "--html", html).out
    assert len(read_results(out).units) == 8
    first = "Not enough clips: 1 clip; at least 8 are needed to say anything."
    assert text.splitlines()[0] == first and "Prefer" not in text and "Keep" not in text
    page = html.read_text(encoding="utf-8")
    assert first in page and "Prefer" not in page


def test_results_by_tag_or_folder_and_the_worst_clips(call: Call, tmp_path: Path) -> None:  # noqa: F811
    demo = {"path": "demo", "max_frames": 1, "height": 80}
    tags = ["night", "night", "day"]
    clips = [{**demo, "name": f"c{i}", "tag": tag} for i, tag in enumerate(tags)]
    arms = {**ARMS, "more": {"refiner": "nc", "iterations": 2}}
    out = tmp_path / "out"
    assert call("ab", "run", experiment(tmp_path, clips=clips, arms=arms), "--output", out, "--quiet").code == 0
    found = json.loads(call("ab", "analyze", out, "--json").out)
    segments = [(one["segment"], one["by"], one["arm"], one["units"]) for one in found["segments"]]
    assert segments == [(name, "tag", arm, n) for arm in ("more", "nc") for name, n in (("night", 2), ("day", 1))]
    assert all(one["verdict"] == "too few" for one in found["segments"])
    listed = [one["unit"] for side in ("worst", "best") for one in found[side]["nc"]]
    assert sorted(listed) == ["c0", "c1", "c2"]
    assert found["fixed_in_advance"] and {one["arm"] for one in found["ranking"]["standings"]} == {"sdedit", *arms}
    assert len(found["ranking"]["pairs"]) == 3 and {pair["verdict"] for pair in found["ranking"]["pairs"]} == {
        "too few"
    }
    by_metric = {(c["metric"], c["arm"]): c for c in found["comparisons"]}
    assert by_metric["mse", "nc"]["corrected"] and by_metric["mse", "nc"]["p_holm"] >= by_metric["mse", "nc"]["p"]
    undirected = by_metric["spatial_frequency", "nc"]
    assert not undirected["corrected"] and undirected["p_holm"] is None and undirected["test"]
    text = call("ab", "analyze", out).out
    assert "MSE to the input by tag" in text and "that the experiment's file fixed in advance" in text
    assert text.splitlines()[0].startswith("Not enough clips: 3 clips") and text.count("Not enough clips") == 1


def test_clips_of_one_folder_make_no_segments(tmp_path: Path) -> None:
    def segments(*paths: str) -> tuple[str, dict[str, str]]:
        clips = {f"c{i}": {"units": [f"c{i}"]} for i in range(len(paths))}
        config = {"clips": [{"path": path} for path in paths]}
        return Results(tmp_path, {"config": config, "clips": clips}, {}).segments

    assert segments("a/one.mp4", "b/two.mp4", "demo") == ("folder", {"c0": "a", "c1": "b"})
    assert segments("x/a/one.mp4", "y/a/two.mp4") == ("folder", {"c0": "x/a", "c1": "y/a"})


def test_calibration_starts_from_the_noise_of_its_pair(call: Call, tmp_path: Path) -> None:  # noqa: F811
    arms = {"sdedit": "sdedit", "nc": {"refiner": "nc", "cutoff": 0.0}}
    out = tmp_path / "out"
    assert call("ab", "run", experiment(tmp_path, arms=arms, seeds=2), "--output", out, "--quiet").code == 0
    found = steady(out)
    assert len(found) == 32
    for unit, seed, arm in found:
        assert found[unit, seed, "nc"] == found[unit, seed, "sdedit"], arm
    seeds = {record["receipt"]["settings"]["seed"] for record in read_results(out).records.values()}
    assert len(seeds) == 16, "every unit and seed has noise of its own"


@pytest.mark.slow
def test_killed_and_resumed_it_gives_the_same(call: Call, tmp_path: Path) -> None:  # noqa: F811
    # The process that is killed knows the shipped weights alone, which also give it something to do.
    path = experiment(tmp_path, adapter={"name": "embedded", "weights": str(DEFAULT_WEIGHTS)})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert call("ab", "run", path, "--output", whole, "--quiet").code == 0
    command = [*PROGRAM, "ab", "run", str(path), "--output", str(broken), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        for _ in range(3000):
            if len(list(broken.glob("cells/*.json"))) >= 3 or running.poll() is not None:
                break
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    kept = len(read_results(broken).records)
    assert 3 <= kept < 16
    assert "not finished" in call("ab", "analyze", broken).out
    assert call("ab", "run", path, "--output", broken, "--quiet").code == 0
    assert steady(broken) == steady(whole)
    clips = {name: data for name, data in contents(whole).items() if name.endswith(".mp4")}
    assert len(clips) == 24 and {name: contents(broken).get(name) for name in clips} == clips
    assert not list(broken.rglob("*.part"))


def test_another_experiment_is_not_mixed_in(call: Call, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    outcome = call("ab", "run", experiment(tmp_path), "--output", out)
    assert outcome.code == 2 and "holds no experiment" in outcome.line and list(contents(out)) == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"sdedit": "sdedit", "nc": {"refiner": "nc", "iteratons": 2}}}, "'iterations'"),
        ({"arms": {"sdedit": "sdedit", "nc": {"refiner": "nc", "iterations": -1}}}, "iterations is -1"),
        ({"arms": {"sdedit": {"refiner": "sdedit", "iterations": 2}, "nc": "nc"}}, "does not calibrate"),
        ({"control": "sdedti"}, "did you mean 'sdedit'"),
        ({"primry": "mse"}, "did you mean 'primary'"),
        ({"primary": "spatial_frequency"}, "neither more nor less"),
        ({"metrics": ["mse", "sim"]}, "did you mean 'ssim'"),
        ({"guardrails": {"seconds": "slow"}}, "neither a ratio"),
        ({"settings": {"strenght": 0.5}}, "did you mean 'strength'"),
        ({"settings": {"strength": 5}}, "strength is 5"),
        ({"clips": ["nowhere.mp4"]}, "nowhere.mp4"),
        ({"clips": [{"path": "demo", "pieces": {"frames": 99}}]}, "too small for pieces"),
        ({"adapter": {"name": "embeded"}}, "did you mean 'embedded'"),
        ({"adapter": {"name": "embedded", "wieghts": 1}}, "does not take these options"),
        ({"seeds": [1, 1]}, "given twice"),
    ],
)
def test_bad_files_are_one_line(call: Call, tmp_path: Path, changes: dict[str, object], said: str) -> None:  # noqa: F811
    path = experiment(tmp_path, **changes)
    outcome = call("ab", "run", path, "--output", tmp_path / "out")
    assert outcome.code == 2 and said in outcome.line and not (tmp_path / "out").exists()


def test_bad_options_are_one_line(call: Call, tmp_path: Path) -> None:  # noqa: F811
    for arguments, said in (
        (("analyze", tmp_path), "holds no experiment.json"),
        (("analyze", tmp_path, "--guardrail", "seconds"), "give NAME=VALUE"),
        (("analyze", tmp_path, "--alpha", "2"), "must lie in"),
        (("plan",), "--pilot DIR or --sd"),
        (("plan", "--sd", "1"), "--effect"),
    ):
        outcome = call("ab", *arguments)
        assert outcome.code == 2 and said in outcome.line


def test_the_shipped_file_is_valid() -> None:
    config = load_config(CONFIGS / "ab_embedded.yaml")
    assert config.control == "sdedit" and config.arms["sdedit"].calibration().iterations == 0


def test_live_traffic_is_read_from_the_store(call: Call, tmp_path: Path) -> None:  # noqa: F811
    from nc_refiner.experiment.store import open_store
    from nc_refiner.experiment.store.records import Outcome

    database = tmp_path / "live.db"
    with closing(open_store(f"sqlite:///{database}")) as store:
        for index in range(120):
            arm = ("control", "nc")[index % 2]
            unit = {"experiment": "live", "unit": f"u{index}", "arm": arm, "at": float(index)}
            store.write([("exposures", {"id": f"e{index}", "weight": 0.5, **unit})])
            value = 1.0 + 0.01 * (index % 7) - 0.2 * (index % 2)
            store.write(Outcome("live", f"u{index}", arm, "seconds", value, at=float(index)).rows())
    for place in (database, f"sqlite:///{database}"):
        outcome = call("ab", "analyze", place, "--json")
        assert outcome.code == 0, outcome.err
        found = json.loads(outcome.out)
        assert found["decided_by"] == "always-valid intervals" and found["sample_ratio"]["counts"] == {
            "control": 60,
            "nc": 60,
        }
        (seconds,) = found["comparisons"]
        assert not seconds["paired"] and seconds["verdict"] == "better"
        assert seconds["difference"] == pytest.approx(-0.2, abs=0.01)
        assert found["conclusions"][0]["decision"] == "prefer"
    html = tmp_path / "live.html"
    assert call("ab", "analyze", database, "--html", html).code == 0 and "Shares of units" in html.read_text("utf-8")
    outcome = call("ab", "analyze", database, "--experiment", "other")
    assert outcome.code == 2 and "other" in outcome.line
    outcome = call("ab", "analyze", "sqlite:///" + str(tmp_path / "none.db"))
    assert outcome.code == 2 and "none.db" in outcome.line


def test_outputs_from_before_reuse_was_the_default_are_not_mixed_with_new_ones(call: Call, tmp_path: Path) -> None:  # noqa: F811
    clips = [{"path": "demo", "max_frames": 1, "height": 32, "name": "c"}]
    without = {**ARMS, "nc": {**ARMS["nc"], "reuse_prediction": False}}  # type: ignore[dict-item]
    path, out = experiment(tmp_path, clips=clips, arms=without), tmp_path / "out"
    assert call("ab", "run", path, "--output", out, "--quiet").code == 0
    manifest = json.loads((out / "experiment.json").read_text(encoding="utf-8"))
    assert "reuse_prediction" not in manifest
    # What an experiment of that time wrote, whose file leaves it open.
    manifest["config"]["arms"]["nc"]["reuse_prediction"] = None
    (out / "experiment.json").write_text(json.dumps(manifest), encoding="utf-8")
    refused = call("ab", "run", experiment(tmp_path, clips=clips), "--output", out, "--quiet")
    assert refused.code == 2 and "another experiment (different: reuse_prediction)" in refused.err
