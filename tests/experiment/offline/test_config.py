"""Arms and sweeps are made from the description of a refiner; their files are read with lines and limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nc_refiner.config.document import ConfigError
from nc_refiner.config.refiner import RefinerDescription
from nc_refiner.experiment.offline.config import ArmConfig, load_config
from nc_refiner.experiment.offline.results import MANIFEST, read_results
from nc_refiner.sweeps import SweepClip, SweepPlan, run_plan
from nc_refiner.sweeps import load_config as load_sweep

from ...evaluation.conftest import noisy, textured

MADE_UP = """
import json
import nc_refiner.config.refiner as refiner
class WithMore(refiner.RefinerDescription):
    sharpness: float = 0.5
refiner.RefinerDescription = WithMore
from nc_refiner.experiment.offline.config import ArmConfig, ExperimentConfig
from nc_refiner.experiment.offline.sweep_config import SweepConfig
arm = ArmConfig(refiner="nc", sharpness=0.75)
sweep = SweepConfig(clips="demo", sharpness=0.25)
print(json.dumps([arm.sharpness, sweep.described, sweep.alone]))
"""


def test_every_field_of_the_description_is_an_option_of_arms_and_sweeps() -> None:
    described = set(RefinerDescription.model_fields) - {"backbone"}
    assert described <= set(ArmConfig.model_fields)
    varied = {"iterations", "cutoff", "strength", "start_timestep", "keep", "tuning"}
    assert described - varied <= set(SweepPlan.model_fields)


def test_a_made_up_field_appears_without_another_line() -> None:
    found = subprocess.run([sys.executable, "-c", MADE_UP], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [0.75, {"sharpness": 0.25}, True]


def test_an_arm_that_runs_alone_gives_the_numbers_of_the_shared_one(small_embedded, tmp_path: Path) -> None:
    clips = [SweepClip("a", noisy(textured(2, 16, 24), 0.1, 1), textured(2, 16, 24))]
    given = {
        "iterations": (0, 2),
        "cutoffs": (0.5,),
        "strengths": (0.4,),
        "num_inference_steps": 8,
        "baselines": ("input", "ilvr", "matched_sdedit"),
        "match_iterations": 2,
        "metrics": ("mse", "ssim"),
    }
    together = run_plan(small_embedded, clips, SweepPlan(**given), tmp_path / "a")
    alone = run_plan(small_embedded, clips, SweepPlan(**given, overlap=2), tmp_path / "b")
    assert [row["label"] for row in together] == [row["label"] for row in alone]
    for one, two in zip(together, alone, strict=True):
        for name in ("mse", "ssim", "psnr_to_original"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), (one["label"], name)
        assert two.get("steps") == one.get("steps"), one["label"]
    assert [row.get("evaluations") for row in together[:3]] == [row.get("evaluations") for row in alone[:3]]
    plain = {**given, "baselines": (), "reuse_prediction": False}
    shared, single = (
        run_plan(small_embedded, clips, SweepPlan(**plain, **more), tmp_path / "c") for more in ({}, {"overlap": 2})
    )
    for rows in (shared, single):
        calibrated = next(row for row in rows if row["method"] == "nc")
        assert calibrated["evaluations"] == next(row for row in together if row["method"] == "nc")["evaluations"] + 1


@pytest.mark.parametrize("load", [load_config, load_sweep])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 40 + "]" * 40, "nested deeper than 16"),
        ("clips: &a demo\noutput: *a", "anchors and aliases"),
        ("clips: !!python/object/apply:os.system [true]", "the tag"),
        ("clips: demo\nclips: demo", ":2: 'clips' is given twice"),
        ("", "is empty"),
        ("x: " + "y" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_files_have_limits(load, text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load(path)


def test_a_folder_of_the_first_format_is_read(tmp_path: Path) -> None:
    manifest = {
        "format": 1,
        "config": {"experiment": "old", "arms": {"a": {}, "b": {}}, "seeds": [0], "control": "a"},
        "clips": {"camel": {"clip": "0", "units": ["camel"]}},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    where = tmp_path / "runs" / "camel.s0"
    where.mkdir(parents=True)
    for arm, clip in (("a", "a.mp4"), ("b", "gone.mp4")):
        record = {"unit": "camel", "source": "camel", "arm": arm, "seed": 0, "metrics": {"mse": 0.5}, "clip": clip}
        (where / f"{arm}.json").write_text(json.dumps(record), encoding="utf-8")
    (where / "a.mp4").write_bytes(b"")
    results = read_results(tmp_path)
    assert list(results.records) == [("camel", 0, "a")] and not results.complete
    assert (tmp_path / results.records["camel", 0, "a"]["clip"]).is_file()
    assert results.observations()[0].value == 0.5


def test_a_folder_is_each_of_its_videos(tmp_path):
    from nc_refiner.clip import VideoClip
    from nc_refiner.experiment.offline.clips import each_clip, sources
    from nc_refiner.experiment.offline.config import ClipConfig
    from nc_refiner.video import write_clip

    for folder in ("clips", "originals"):
        (tmp_path / folder).mkdir()
        for name in ("b", "a"):
            write_clip(VideoClip(torch.full((2, 3, 32, 32), 0.5), 8.0), tmp_path / folder / f"{name}.mp4")
    found = sources(each_clip([ClipConfig(path="clips", original="originals", max_frames=1)], tmp_path), tmp_path)
    names = [(one.name, one.path.name, one.original.name) for one in found]
    assert names == [("a", "a.mp4", "a.mp4"), ("b", "b.mp4", "b.mp4")]
    with pytest.raises(ValueError, match="leave `name` out"):
        each_clip([ClipConfig(path="clips", name="mine")], tmp_path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="holds no video"):
        each_clip([ClipConfig(path="nothing")], tmp_path)
    (tmp_path / "originals" / "a.mp4").unlink()
    with pytest.raises(ValueError, match=r"a\.mp4"):
        sources(each_clip([ClipConfig(path="clips", original="originals")], tmp_path), tmp_path)
