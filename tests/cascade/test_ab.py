"""`refiner: {type: ab, …}`: each prompt its arm, bit-identical to that arm alone, recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nc_refiner.cascade import ConfigError
from nc_refiner.experiment.store import open_store

from .conftest import SMALL, clips, config, folders, run

pytestmark = pytest.mark.usefixtures("small_model")

ROOT = Path(__file__).resolve().parents[2]
ARMS = {
    "control": "{type: sdedit, num_inference_steps: 4, strength: 0.5}",
    "nc": "{type: nc, iterations: 1, num_inference_steps: 4, strength: 0.5}",
}


def text(tmp_path: Path, **options: str) -> str:
    given = {"type": "ab", "experiment": "e", "store": str(tmp_path / "ab.db"), **options}
    lines = "".join(f"  {key}: {value}\n" for key, value in given.items())
    arms = "".join(f"    {name}: {arm}\n" for name, arm in ARMS.items())
    return SMALL[: SMALL.index("refiner:")] + f"refiner:\n{lines}  arms:\n{arms}"


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("mode", ["live", pytest.param("shadow", marks=pytest.mark.slow)])
def test_an_arm_in_a_cascade_is_that_arm_alone(tmp_path, small, arm, mode):
    weights = {"control": "{control: 1, nc: 0.000001}", "nc": "{control: 0.000001, nc: 1}"}[arm]
    (tmp_path / "ab.yaml").write_text(text(tmp_path, mode=mode, weights=weights), encoding="utf-8")
    served = arm if mode == "live" else "control"
    (tmp_path / "alone.yaml").write_text(
        SMALL[: SMALL.index("refiner:")] + f"refiner: {ARMS[served]}\n", encoding="utf-8"
    )
    run(tmp_path / "ab.yaml", tmp_path / "one")
    run(tmp_path / "alone.yaml", tmp_path / "two")
    one, two = clips(tmp_path / "one"), clips(tmp_path / "two")
    assert len(one) >= 6 and sorted(one.values()) == sorted(two.values())
    observations = open_store(tmp_path / "ab.db").observations("e")
    arms = {o.arm for o in observations if o.metric == "seconds"}
    assert arms == ({arm} if mode == "live" else {"control", "nc"})
    receipt = json.loads((folders(tmp_path / "one")[0] / "refiner.receipt.json").read_text(encoding="utf-8"))
    assert receipt["ab"] == {"experiment": "e", "assigned": arm, "reason": "split"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "{control: 1, x: 1}"}, "the arms are"),
        ({"ramp": "2"}, "ramp"),
        ({"slots": "[0, 0.5]"}, "layer"),
        ({"guardrails": "{second: 1}"}, "seconds"),
        ({"store": "mysql://u@h/x"}, "not supported"),
    ],
)
def test_bad_experiments_are_one_line_and_write_nothing(tmp_path, options, words):
    path = tmp_path / "ab.yaml"
    path.write_text(text(tmp_path, **options), encoding="utf-8")
    with pytest.raises((ConfigError, ValueError), match=words):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "ab.db").exists()


def test_the_shipped_config_is_valid():
    assert set(config(ROOT / "configs" / "ab_cascade.yaml").refiner.arms) == {"control", "nc"}
