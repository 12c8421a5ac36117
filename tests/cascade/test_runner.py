"""The runner: what it leaves, what it repeats on resuming, what one prompt's failure does to the others."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from filelock import FileLock

from nc_refiner.cascade import ConfigError, Stage, StageOptions, StageResult, register_stage
from nc_refiner.cascade.exchange import read_exact, rounded, write_exact
from nc_refiner.cascade.stages import registry
from nc_refiner.clip import VideoClip
from nc_refiner.refiner import CalibratedRefiner
from nc_refiner.refining.run import RefineSettings
from nc_refiner.video import read_clip

from ..cli.conftest import Call, call  # noqa: F401
from .conftest import KINDS, clips, config, folders, record, run

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.fixture
def stages(monkeypatch):
    """Stages registered inside a test are gone after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def test_every_stage_leaves_its_clip_and_receipt(small, tmp_path):
    summary = run(small, tmp_path / "out")
    assert not summary.failed
    assert [folder.name for folder in folders(tmp_path / "out")] == ["000-a-camel-walking-in-the-desert", "001-clouds"]
    for index, outcome in enumerate(summary.items):
        names = {path.name for path in outcome.folder.iterdir()}
        each = {f"{kind}.{end}" for kind in KINDS for end in ("mp4", "json", "frames.mkv", "receipt.json", "done.json")}
        assert names == {*each, "final.mp4", "contact.png"}
        assert (outcome.folder / "final.mp4").read_bytes() == (outcome.folder / "refiner.mp4").read_bytes()
        assert outcome.item.seed == 5 + index
        clip = read_clip(outcome.folder / "final.mp4")
        assert (len(clip), clip.height, clip.width, clip.fps) == (5, 32, 48, 16.0)
        assert read_clip(outcome.folder / "refiner.mp4").prompt == outcome.item.prompt
        receipt = json.loads((outcome.folder / "refiner.receipt.json").read_text(encoding="utf-8"))
        assert receipt["calibration"]["iterations"] == 1 and len(receipt["content_loss"]) == 1
    assert clips(summary.items[0].folder)["base.mp4"] != clips(summary.items[1].folder)["base.mp4"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8")) == summary.report()


def test_a_run_leaves_the_global_random_state(small, tmp_path, global_rng_untouched):
    run(small, tmp_path / "out", "prompt=one")
    assert folders(tmp_path / "out")


def test_the_refiner_stage_is_the_refiner(small, tmp_path, small_embedded):
    (outcome,) = run(small, tmp_path / "out", "prompt=one").items
    before = read_exact(outcome.folder / "interpolation.frames.mkv", record(outcome.folder, "interpolation")["clip"])
    after = read_exact(outcome.folder / "refiner.frames.mkv", record(outcome.folder, "refiner")["clip"])
    refiner = CalibratedRefiner.from_config(small)
    assert refiner.calibration.iterations == 1 and refiner.defaults["strength"] == 0.5
    assert torch.equal(after.frames, rounded(refiner(before, seed=5).clip).frames)
    plain = CalibratedRefiner(small_embedded).with_calibration(iterations=0)
    settings = {"strength": 0.5, "num_inference_steps": 4}
    assert RefineSettings(**settings).strength == 0.5
    (control,) = run(small, tmp_path / "control", "prompt=one", "refiner.iterations=0").items
    found = read_exact(control.folder / "refiner.frames.mkv", record(control.folder, "refiner")["clip"])
    assert torch.equal(found.frames, rounded(plain(before, seed=5, **settings).clip).frames)


def test_sdedit_changes_the_refiners_output_alone(small, tmp_path):
    run(small, tmp_path / "nc", "refiner=nc")
    run(small, tmp_path / "sdedit", "refiner=sdedit")
    nc, sdedit = clips(tmp_path / "nc"), clips(tmp_path / "sdedit")
    assert nc.keys() == sdedit.keys()
    changed = {name.partition("/")[2] for name in nc if nc[name] != sdedit[name]}
    assert changed == {"refiner.mp4", "refiner.frames.mkv", "final.mp4"}


def test_resuming_repeats_exactly_what_changed(small, tmp_path):
    out = tmp_path / "out"
    run(small, out)
    before = clips(out)
    again = run(small, out, resume=True)
    assert {state for item in again.items for state in item.stages.values()} == {"skipped"}
    assert clips(out) == before
    changed = run(small, out, "refiner.cutoff=0.5", resume=True)
    assert [item.stages for item in changed.items] == [
        {"base": "skipped", "interpolation": "skipped", "refiner": "done"}
    ] * 2
    fps = run(small, out, "base.fps=4", "refiner.cutoff=0.5", resume=True)
    assert {state for item in fps.items for state in item.stages.values()} == {"done"}
    fresh = run(small, tmp_path / "fresh", "base.fps=4", "refiner.cutoff=0.5")
    assert not fresh.failed and clips(out) == clips(tmp_path / "fresh")


def test_another_code_version_makes_everything_anew(small, tmp_path, monkeypatch):
    run(small, tmp_path / "out", "prompt=one")
    monkeypatch.setattr("nc_refiner.cascade.work.code_version", lambda: "another")
    (outcome,) = run(small, tmp_path / "out", "prompt=one", resume=True).items
    assert set(outcome.stages.values()) == {"done"}


@pytest.mark.parametrize("name", ["base.mp4", "base.frames.mkv", "base.json", "base.receipt.json", "base.done.json"])
@pytest.mark.parametrize("harm", ["gone", "cut", "other"])
def test_a_file_that_is_not_whole_is_no_finished_stage(small, tmp_path, name, harm):
    out = tmp_path / "out"
    run(small, out, "prompt=one", stop_after="base")
    (folder,) = folders(out)
    before, victim = clips(out), folder / name
    if harm == "gone":
        victim.unlink()
    else:
        content = victim.read_bytes()
        victim.write_bytes(content[:-10] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    (outcome,) = run(small, out, "prompt=one", resume=True, stop_after="base").items
    assert outcome.stages == {"base": "done"}
    assert clips(out) == before


def test_without_resume_an_earlier_run_is_not_touched(small, tmp_path):
    run(small, tmp_path / "out", "prompt=one")
    before = clips(tmp_path / "out")
    with pytest.raises(ConfigError, match="--resume"):
        run(small, tmp_path / "out", "prompt=one")
    assert clips(tmp_path / "out") == before


def test_stop_after(small, tmp_path):
    summary = run(small, tmp_path / "out", stop_after="interpolation")
    assert [item.stages for item in summary.items] == [{"base": "done", "interpolation": "done"}] * 2
    assert not list((tmp_path / "out").rglob("final.mp4"))
    rest = run(small, tmp_path / "out", resume=True)
    assert [item.stages["refiner"] for item in rest.items] == ["done", "done"]
    with pytest.raises(ConfigError, match="no interpolation stage"):
        run(small, tmp_path / "other", "interpolation=none", stop_after="interpolation")


def test_two_runs_in_one_folder(small, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ConfigError, match="another run"):
        run(small, tmp_path / "out")


def test_one_file_as_output(small, tmp_path):
    summary = run(small, tmp_path / "deep" / "camel.mp4", "prompt=one")
    assert summary.items[0].final == tmp_path / "deep" / "camel.mp4"
    assert len(read_clip(tmp_path / "deep" / "camel.mp4")) == 5
    assert folders(tmp_path / "deep" / "camel")
    with pytest.raises(ConfigError, match="give a folder"):
        run(small, tmp_path / "two.mp4")


class _Picky(Stage):
    loaded = 0

    def load(self):
        type(self).loaded += 1

    def run(self, request):
        if request.prompt == "clouds":
            raise RuntimeError("no clouds\nplease")
        return StageResult(request.clip)


def test_a_failing_prompt_does_not_stop_the_others(small, tmp_path, stages, call: Call):  # noqa: F811
    picky = register_stage("interpolation", "picky")(type("Picky", (_Picky,), {"Options": StageOptions}))
    outcome = call("cascade", small, "--output", tmp_path / "out", "--set", "interpolation=picky")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "failed: interpolation: no clouds please" in outcome.out and "1 of 2 done" in outcome.out
    report = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert [item["error"] for item in report["items"]] == [None, "interpolation: no clouds please"]
    assert [item["stages"].get("refiner") for item in report["items"]] == ["done", None]
    assert picky.loaded == 1


def test_a_model_that_does_not_load_fails_in_words(small, tmp_path, stages):
    def load(self):
        raise OSError("no weights here")

    register_stage("refiner", "broken")(type("Broken", (_Picky,), {"Options": StageOptions, "load": load}))
    summary = run(small, tmp_path / "out", "refiner=broken")
    assert [item.error for item in summary.items] == ["refiner: no weights here"] * 2
    assert [item.stages["interpolation"] for item in summary.items] == ["done", "done"]


@pytest.fixture
def failing_calibration(monkeypatch):
    """Refinement fails whenever it calibrates."""
    monkeypatch.setattr("nc_refiner.refining.run.calibrate", _refuse_to_calibrate)


def _refuse_to_calibrate(x_t, reference, level, predict_x0, config, weights):
    from nc_refiner.calibration import calibrate

    if config.iterations:
        raise RuntimeError("out of luck")
    return calibrate(x_t, reference, level, predict_x0, config, weights)


@pytest.mark.usefixtures("failing_calibration")
def test_on_refiner_failure(small, tmp_path):
    failed = run(small, tmp_path / "fail", "prompt=one")
    assert failed.items[0].error == "refiner: out of luck"
    (passed,) = run(small, tmp_path / "pass", "prompt=one", "on_refiner_failure=passthrough").items
    assert passed.stages["refiner"] == "fallback" and "passed through" in passed.notes[0]
    assert (passed.folder / "final.mp4").read_bytes() == (passed.folder / "interpolation.mp4").read_bytes()
    (plain,) = run(small, tmp_path / "plain", "prompt=one", "on_refiner_failure=sdedit").items
    control = run(small, tmp_path / "control", "prompt=one", "refiner.iterations=0").items[0]
    assert (plain.folder / "final.mp4").read_bytes() == (control.folder / "final.mp4").read_bytes()
    receipt = json.loads((plain.folder / "refiner.receipt.json").read_text(encoding="utf-8"))
    assert any("without calibration" in note for note in receipt["degradations"])


def test_what_fell_back_is_tried_again(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("nc_refiner.refining.run.calibrate", _refuse_to_calibrate)
        run(small, tmp_path / "out", "prompt=one", "on_refiner_failure=passthrough")
    (outcome,) = run(small, tmp_path / "out", "prompt=one", "on_refiner_failure=passthrough", resume=True).items
    assert outcome.stages == {"base": "skipped", "interpolation": "skipped", "refiner": "done"}
    assert outcome.notes == []


def test_prompt_file(small, tmp_path, call: Call):  # noqa: F811
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# three\nÀ la plage!\n\n  ../../etc/passwd  \nÀ la plage!\n", encoding="utf-8")
    arguments = ("cascade", small, "--output", tmp_path / "out", "--stop-after", "base", "--json")
    outcome = call(*arguments, "--prompt-file", prompts)
    assert outcome.code == 0
    items = json.loads(outcome.out)["items"]
    assert [item["name"] for item in items] == ["000-a-la-plage", "001-etc-passwd", "002-a-la-plage"]
    assert [item["seed"] for item in items] == [5, 6, 7]
    prompts.write_text("# nothing\n", encoding="utf-8")
    assert "holds 0 prompts" in call(*arguments, "--prompt-file", prompts).line


@pytest.mark.parametrize(
    "option", ["refiner", "=3", "refiner..cutoff=1", "seed.x=1", "refiner.cutoff=[", "refiner.cutof=1"]
)
def test_bad_overrides(small, tmp_path, call: Call, option):  # noqa: F811
    outcome = call("cascade", small, "--output", tmp_path / "out", "--set", option)
    assert outcome.code == 2 and f"--set {option}" in outcome.line
    assert not (tmp_path / "out").exists()


def test_overrides_win(small):
    changed = config(small, "refiner.cutoff=0.25", "seed=9", "interpolation=none", "refiner.backbone.device=cpu")
    assert (changed.refiner.cutoff, changed.seed, changed.interpolation) == (0.25, 9, None)
    assert changed.refiner.backbone.options == {"device": "cpu"}
    assert config(small, "refiner=nc", "refiner.iterations=2").refiner.iterations == 2


def test_the_exchange_is_exact(tmp_path):
    clip = rounded(
        VideoClip(torch.rand((3, 3, 34, 50), generator=torch.Generator().manual_seed(0)), 12.5, "p", 3, ("h",))
    )
    write_exact(clip, tmp_path / "a.mkv")
    write_exact(clip, tmp_path / "b.mkv")
    like = {"fps": 12.5, "prompt": "p", "seed": 3, "history": ["h"]}
    found = read_exact(tmp_path / "a.mkv", like)
    assert torch.equal(found.frames, clip.frames)
    assert (found.fps, found.prompt, found.seed, found.history) == (12.5, "p", 3, ("h",))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_a_full_folder_of_an_earlier_kill_is_tidied(small, tmp_path):
    run(small, tmp_path / "out", "prompt=one", stop_after="base")
    (folder,) = folders(tmp_path / "out")
    scratch = folder / ".scratch-left"
    scratch.mkdir()
    (scratch / "half.mp4").write_bytes(b"half")
    run(small, tmp_path / "out", "prompt=one", resume=True)
    assert not scratch.exists()
    shutil.rmtree(folder)
    (outcome,) = run(small, tmp_path / "out", "prompt=one", resume=True).items
    assert set(outcome.stages.values()) == {"done"}
