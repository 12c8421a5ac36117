"""What is shown: an offline run's clips, or a plain folder's."""

from __future__ import annotations

import json
import shutil

import pytest

from nc_refiner.cli import main
from nc_refiner.evaluation.extras import load
from nc_refiner.experiment.offline.config import ExperimentConfig
from nc_refiner.experiment.offline.run import OfflineRun
from nc_refiner.experiment.study.clips import read_material

pytestmark = pytest.mark.usefixtures("small_model")


def test_a_plain_folder(folder):
    material = read_material(folder)
    assert material.arms == ("nc_arm", "sdedit_arm") and len(material.items) == 4
    assert read_material(folder, ["sdedit_arm", "nc_arm"]).control == "sdedit_arm"
    (folder / "nc_arm" / "camel1.mp4").unlink()
    assert read_material(folder).skipped == ("camel1",) and len(read_material(folder).items) == 3


def test_the_folder_of_a_run(tmp_path, folder):
    config = ExperimentConfig.model_validate(
        {
            "version": 1,
            "experiment": "tiny",
            "settings": {"strength": 0.5, "num_inference_steps": 6},
            "control": "sdedit",
            "arms": {"nc": {"refiner": "nc", "iterations": 1}, "sdedit": "sdedit"},
            "clips": [{"path": str(folder / "input" / "camel0.mp4"), "pieces": {"frames": 6}, "max_frames": 12}],
        }
    )
    OfflineRun(config, tmp_path, tmp_path / "run", "cpu").run()
    material = read_material(tmp_path / "run")
    assert (material.name, material.control, len(material.items)) == ("tiny", "sdedit", 2)
    assert {item.clip for item in material.items} == {"camel0"} and material.items[0].pair.endswith(".s0")
    assert all(path.is_file() for item in material.items for path in (item.input, *item.outputs.values()))
    shutil.rmtree(tmp_path / "run" / "runs" / material.items[0].pair)
    assert len(read_material(tmp_path / "run").items) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{}/nope"], "there is no folder"),
        (["{}", "--arms", "nc_arm,other"], "there is no arm 'other'; there are nc_arm, sdedit_arm"),
        (["{}", "--arms", "nc_arm"], "at least two arms"),
        (["{}", "--arms", "nc_arm,nc_arm"], "named twice"),
        (["{}/input"], "is not the folder of an `ab run`"),
        (["{}", "--host", "no.such.host.invalid"], "cannot listen on"),
        (["{}", "--study", ""], "1 to 200 printable"),
        (["{}", "--store", "mysql://u@h/x"], "is not supported"),
    ],
)
def test_bad_calls_are_one_line(folder, capsys, arguments, words):
    given = [argument.format(folder) for argument in arguments]
    assert main(["ab", "study", *given, "--port", "0"]) == 2
    assert words in capsys.readouterr().err and not (folder / "nope").exists()


def test_results_of_nothing(folder, tmp_path, capsys):
    assert main(["ab", "study-results", str(folder)]) == 2
    assert "holds no study.db" in capsys.readouterr().err
    assert main(["ab", "migrate", str(tmp_path / "ab.db")]) == 0
    assert main(["ab", "study-results", str(tmp_path / "ab.db")]) == 2
    assert "it holds none" in capsys.readouterr().err
    assert main(["ab", "study-results", str(tmp_path / "ab.db"), "--alpha", "2"]) == 2
    assert json.dumps("--alpha")[1:-1] in capsys.readouterr().err


def test_a_missing_package_says_how_to_get_it(folder, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["ab", "study", str(folder), "--port", "0"]) == 2
    assert "pip install 'nc_refiner[study]'" in capsys.readouterr().err
    with pytest.raises(ImportError, match=r"nc_refiner\[experiment\]"):
        load("no_such_package")
