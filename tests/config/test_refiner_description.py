"""One description of a refiner: a field that is added to it appears wherever a refiner is described."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError, create_model

from nc_refiner.config.document import ConfigError, Document
from nc_refiner.config.refiner import NCOptions, RefinerDescription, changes, refiner_options
from nc_refiner.refining.settings import RefineSettings

ROOT = Path(__file__).resolve().parents[2]
MARK = "    iterations: int = Field(3"
FIELD = '    made_up: int | None = Field(None, ge=0, description="An option nobody has written yet.")\n'
LOOK = """
import json, sys
from pathlib import Path
from nc_refiner.cascade.config import load_config as cascade
from nc_refiner.cascade.schema import json_schema
from nc_refiner.cli.main import main
from nc_refiner.experiment.offline.config import load_config as experiment
from nc_refiner.experiment.offline.sweep_config import load_config as sweep

folder = Path(sys.argv[1])
found = {"schema": "made_up" in json_schema()["$defs"]["NCOptions"]["properties"]}
found["cascade"] = cascade(folder / "cascade.yaml").refiner.made_up
found["experiment"] = experiment(folder / "experiment.yaml").arms["nc"].made_up
found["sweep"] = sweep(folder / "sweep.yaml").made_up
print(json.dumps(found))
main(["refine", "--help"])
"""


def test_a_made_up_option_appears_everywhere(tmp_path):
    package = tmp_path / "nc_refiner"
    shutil.copytree(ROOT / "nc_refiner", package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    home = package / "config" / "refiner.py"
    text = home.read_text(encoding="utf-8")
    assert text.count(MARK) == 1
    home.write_text(text.replace(MARK, FIELD + MARK), encoding="utf-8")
    for name, lines in {
        "cascade": "version: 1\nbase: embedded\nrefiner: {type: nc, made_up: 5}\n",
        "experiment": (
            "version: 1\nexperiment: e\ncontrol: a\narms: {a: sdedit, nc: {refiner: nc, made_up: 6}}\nclips: [demo]\n"
        ),
        "sweep": "version: 1\nclips: demo\nmade_up: 7\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(lines, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    found, _, shown = ran.stdout.partition("\n")
    assert json.loads(found) == {"schema": True, "cascade": 5, "experiment": 6, "sweep": 7}
    assert "--made-up" in shown and "An option nobody" in shown


def test_the_defaults_are_those_of_the_python_api():
    described = RefinerDescription()
    assert RefineSettings(**described.settings()) == RefineSettings()
    assert described.calibration().iterations == 3 and described.calibration().cutoff == 1.0


@given(
    strength=st.none() | st.floats(-1, 2),
    window=st.none() | st.integers(-2, 40),
    iterations=st.integers(-2, 200),
    cutoff=st.floats(-0.5, 1.5),
    scale=st.none() | st.floats(-1, 10),
)
@settings(max_examples=200, deadline=None)
def test_what_the_description_takes_the_api_takes_too(strength, window, iterations, cutoff, scale):
    given_ = {"strength": strength, "window": window, "iterations": iterations, "cutoff": cutoff, "scale": scale}
    try:
        described = RefinerDescription(**given_)
    except ValidationError:
        return
    assert RefineSettings(**described.settings()).scale == scale
    assert described.calibration().iterations == iterations


def test_arms_may_change_what_is_described_and_keep_its_bounds():
    arm = create_model("Arm", **changes(RefinerDescription, "backbone"))
    assert arm().iterations is None and arm(cutoff=0.5).cutoff == 0.5
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        arm(cutoff=1.5)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("none", "no refiner to build"),
        ({"iterations": 3}, "needs the key 'type'"),
        ({"type": "nx"}, "there is no refiner stage 'nx'"),
        ({"type": "nc", "size": [720]}, "size"),
        ({"type": "nc", "size": [720, 1280], "scale": 2.0}, "size and scale say the same thing"),
        ({"type": "nc", "cutof": 1.0}, "did you mean 'cutoff'"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(value, words):
    with pytest.raises(ConfigError) as error:
        refiner_options(Document("a.yaml", {"refiner": value}), value)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_size_is_read_from_a_list_and_from_the_api():
    described = refiner_options(Document("a.yaml", {}), {"type": "nc", "size": [96, 64]})
    assert isinstance(described, NCOptions) and RefineSettings(**described.settings()).size == (96, 64)
