"""A sweep that is stopped goes on to the same table; what is stored is never computed again."""

from __future__ import annotations

import json

import pytest

from nc_refiner.experiment.offline.results import write_parquet
from nc_refiner.experiment.reports.markdown import markdown
from nc_refiner.sweeps import SweepClip, SweepPlan, run_plan

from ...evaluation.conftest import noisy, textured

PLAN = SweepPlan(
    iterations=(0, 1, 2),
    strengths=(0.4,),
    num_inference_steps=8,
    baselines=("input", "ilvr", "matched_sdedit"),
    match_iterations=2,
    metrics=("mse", "ssim"),
)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def clips():
    return [
        SweepClip(name, noisy(textured(1, 16, 16), 0.1, seed), textured(1, 16, 16)) for seed, name in enumerate("ab")
    ]


@pytest.fixture(scope="module")
def whole(small_embedded, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run_plan(small_embedded, clips, PLAN, folder)


@pytest.mark.parametrize("after", (1, 4, 7, 11))
def test_stopped_after_any_cell_it_gives_the_same_table(small_embedded, clips, whole, tmp_path, after):
    seen = []

    def stop(clip):
        seen.append(clip)
        if len(seen) == after:
            raise Stopped

    with pytest.raises(Stopped):
        run_plan(small_embedded, clips, PLAN, tmp_path, stop)
    assert len(list(tmp_path.glob("*.json"))) == after
    # What a killed process can leave behind besides: half a temporary, or a file that the disk lost.
    (tmp_path / ".half.json.part").write_text("{")
    next(iter(tmp_path.glob("*.json"))).write_text("")
    assert run_plan(small_embedded, clips, PLAN, tmp_path) == whole


def test_cells_without_reuse_are_never_taken_for_cells_with_it(small_embedded, clips, whole, tmp_path):
    plain = PLAN.model_copy(update={"reuse_prediction": False})
    first = run_plan(small_embedded, clips, plain, tmp_path)
    assert run_plan(small_embedded, clips, PLAN, tmp_path) == whole
    before = small_embedded.evaluations
    assert run_plan(small_embedded, clips, plain, tmp_path) == first and small_embedded.evaluations == before
    for one, two in zip(first, whole, strict=True):
        assert (one == two) == (one["method"] not in ("nc", "matched_sdedit")), one["label"]


def test_what_is_stored_is_not_computed_again(small_embedded, clips, whole, tmp_path):
    run_plan(small_embedded, clips, PLAN, tmp_path)
    before = small_embedded.evaluations
    assert run_plan(small_embedded, clips, PLAN, tmp_path) == whole
    assert small_embedded.evaluations == before
    grown = PLAN.model_copy(update={"iterations": (0, 1, 2, 3)})
    assert [row for row in run_plan(small_embedded, clips, grown, tmp_path) if row["iterations"] != 3] == whole
    # Per clip: three predictions of the calibration again, and one denoising that has its first.
    assert small_embedded.evaluations == before + 2 * (4 + 2)


def test_a_cell_belongs_to_everything_that_decides_it(small_embedded, clips, tmp_path):
    plan = SweepPlan(iterations=(0,), strengths=(0.4,), num_inference_steps=8, metrics=("mse",))
    run_plan(small_embedded, clips[:1], plan, tmp_path)
    changes = (
        {"seeds": (1,)},
        {"strengths": (0.3,)},
        {"num_inference_steps": 9},
        {"metrics": ("mse", "ssim")},
    )
    for number, change in enumerate(changes):
        run_plan(small_embedded, clips[:1], plan.model_copy(update=change), tmp_path)
        assert len(list(tmp_path.glob("*.json"))) == number + 2
    run_plan(small_embedded, [SweepClip("a", clips[0].frames)], plan, tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == len(changes) + 2


def test_parquet_holds_the_rows(whole, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    write_parquet(whole, tmp_path / "table.parquet")
    found = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [{name: value for name, value in row.items() if value is not None} for row in found] == [
        {name: value for name, value in row.items() if value is not None} for row in json.loads(json.dumps(whole))
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_the_report_says_what_the_rows_say(whole):
    text = markdown(whole, "Sweep x", ["a.png"])
    means = {}
    for label in ("SDEdit", "NC, N = 2, ν = 1"):
        values = [row["mse"] for row in whole if row["label"] == label]
        means[label] = sum(values) / len(values)
        assert f"| {label} |" in text and f"{1e3 * means[label]:.3f} [" in text
    difference = 1e3 * (means["NC, N = 2, ν = 1"] - means["SDEdit"])
    assert f"{difference:+.3f} [".replace("-", "−") in text
    assert "Clips: 2 (a, b)" in text and "![a](a.png)" in text and "Matched strengths" in text
    alone = markdown([row for row in whole if row["clip"] == "a"], "Sweep x")
    assert "there is no interval" in alone and " [" not in alone.partition("## ")[2]


def test_names_of_files_are_no_markup_in_the_report():
    name = "<img src=x onerror=alert(1)>|a](b)`c"
    row = {"refiner": "r", "clip": name, "label": "SDEdit", "method": "sdedit", "strength": 0.5, "seed": 0, "mse": 1.0}
    text = markdown([{**row, "evaluations": 1}], "<b>Sweep</b>")
    assert "<img" not in text and "<b>" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;\\|a\\](b)\\`c" in text
