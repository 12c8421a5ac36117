"""Every file in `configs/` is loaded; those that need no weights from elsewhere are run; the schema is in step."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from nc_refiner import CalibratedRefiner
from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.cascade.schema import json_schema, schema_text
from nc_refiner.config.refiner import read_refiner
from nc_refiner.video import FrameWriter, read_clip

from ..cli.conftest import Call, call  # noqa: F401
from ..video.conftest import moving

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
STACKS = {"lavie.yaml", "show1.yaml", "vgen_refiner.yaml"}
"""Read by scripts in `integrations/`; only their `refiner:` section is a cascade's."""
ELSEWHERE = {path for path in FILES if path.name.startswith(("sweep", "ab_"))}
"""Loaded and run by the tests of what they configure."""
CASCADES = [path for path in FILES if path.name not in STACKS and path not in ELSEWHERE]


def test_schema_is_in_step_with_the_code():
    written = (CONFIGS / "cascade.schema.json").read_text(encoding="utf-8")
    assert written == schema_text(), "run: nc-refiner cascade --schema > configs/cascade.schema.json"
    jsonschema.Draft202012Validator.check_schema(json.loads(written))


@pytest.mark.parametrize("path", CASCADES, ids=lambda path: path.name)
def test_cascades_load_and_fit_the_schema(path):
    config = load_config(path)
    assert config.base.type
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json_schema())


@pytest.mark.parametrize("name", sorted(STACKS))
def test_the_stacks_refiners_load(name):
    assert read_refiner(CONFIGS / name).type == "nc"


def test_the_schema_refuses_what_the_code_refuses():
    for wrong in ({"version": 1}, {"version": 1, "base": "embedded", "refinr": "nc"}, {"version": 1, "base": "nc"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())


def test_embedded_runs(tmp_path, call: Call):  # noqa: F811
    small = ("--set", "base.frames=3", "--set", "base.height=32", "--set", "base.width=48")
    steps = ("--set", "base.num_inference_steps=3", "--set", "refiner.num_inference_steps=4")
    outcome = call("cascade", CONFIGS / "embedded.yaml", "--output", tmp_path / "out", *small, *steps, "--json")
    assert outcome.code == 0, outcome.err
    (item,) = json.loads(outcome.out)["items"]
    assert item["stages"] == {"base": "done", "interpolation": "done", "refiner": "done"}
    assert len(read_clip(item["final"])) == 5


def test_file_runs_on_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for name in ("a_red_ball", "a_blue_ball"):
        with FrameWriter(tmp_path / "clips" / f"{name}.mp4", 8) as writer:
            writer.write(moving(3, 32, 48))
    config = load_config(CONFIGS / "file.yaml", ["refiner.num_inference_steps=4"])
    summary = CascadeRunner(config).run()
    assert [item.item.prompt for item in summary.items] == ["a blue ball", "a red ball"]
    assert not summary.failed and (tmp_path / "out" / "refined" / "000-a-blue-ball" / "final.mp4").is_file()


def test_a_refiner_alone_needs_no_cascade_around_it():
    refiner = CalibratedRefiner.from_config(CONFIGS / "vgen_refiner.yaml")
    assert refiner.adapter.name == "embedded" and refiner.calibration.iterations == 3
