"""Rivals that restore: at the clip's own size, in sweeps and in experiments, with every mistake told in a line."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from nc_refiner import VideoClip
from nc_refiner.baselines import (
    FunctionRestorer,
    Restorer,
    RestoringBaseline,
    create_restorer,
    register_restorer,
    restorer_names,
    restorers,
)
from nc_refiner.cli.main import main
from nc_refiner.config.document import ConfigError
from nc_refiner.experiment.offline.analyze import analyze_folder
from nc_refiner.experiment.offline.config import ArmConfig, ExperimentConfig, load_config
from nc_refiner.experiment.offline.results import read_results
from nc_refiner.experiment.offline.run import OfflineRun
from nc_refiner.sweeps import SweepClip, SweepPlan, run_plan
from nc_refiner.video import FrameWriter

from ..evaluation.conftest import noisy, textured


class Grain(Restorer):
    """Twice the size, and grain that a seed decides."""

    name, seeded = "grain", True

    def __init__(self, amount: float = 0.1):
        self.amount, self.calls = amount, 0

    def restore(self, frames, prompt, seed):
        self.calls += 1
        large = interpolate(frames, scale_factor=2, mode="nearest")
        return large + self.amount * torch.randn(large.shape, generator=torch.Generator().manual_seed(seed))

    def describe(self):
        return {**super().describe(), "amount": self.amount}


def soft(frames):
    return avg_pool2d(frames, 3, 1, 1, count_include_pad=False)


@pytest.fixture
def registered(monkeypatch):
    """Two restorers of a user's own."""
    monkeypatch.setattr(restorer_names, "_registered", {})
    register_restorer("grain")(Grain)
    register_restorer("soft")(lambda input_scale=1.0: FunctionRestorer("soft", soft, input_scale, version=1))


@pytest.fixture
def clips():
    return [SweepClip(name, noisy(textured(2, 16, 24), 0.1, s), textured(2, 16, 24)) for s, name in enumerate("ab")]


def test_a_larger_result_is_averaged_by_area():
    clip = VideoClip(torch.rand(2, 3, 10, 14), 8, prompt="a camel")
    result = RestoringBaseline(Grain(0.0))(clip, seed=3)
    assert torch.allclose(result.clip.frames, clip.frames, atol=1e-6)
    assert result.receipt["baseline"]["method"] == "grain" and "seed 3" in result.clip.history[-1]
    assert RestoringBaseline(Grain(0.0))(clip, scale=2).clip.frames.shape == (2, 3, 20, 28)
    # Nothing is enlarged before: an upscaler's own pixels are kept where twice the size is asked for.
    assert torch.equal(
        RestoringBaseline(Grain(0.0))(clip, scale=2).clip.frames, interpolate(clip.frames, scale_factor=2)
    )


def test_what_it_is_fed_can_be_shrunk():
    seen = []

    def spy(frames):
        seen.append(tuple(frames.shape))
        return interpolate(frames, scale_factor=4, mode="bicubic")

    clip = VideoClip(torch.rand(1, 3, 32, 48), 8)
    assert RestoringBaseline(FunctionRestorer("spy", spy, 0.25))(clip).clip.frames.shape == (1, 3, 32, 48)
    assert seen == [(1, 3, 8, 12)]
    with pytest.raises(ValueError, match="input_scale is 0; it must be above 0"):
        RestoringBaseline(FunctionRestorer("spy", spy, 0))(clip)


def test_what_is_no_clip_is_refused():
    clip = VideoClip(torch.rand(2, 3, 8, 8), 8)
    with pytest.raises(RuntimeError, match=r"one gave \(1, 3, 8, 8\) for frames of shape \(2, 3, 8, 8\)"):
        RestoringBaseline(FunctionRestorer("one", lambda frames: frames[:1]))(clip)
    with pytest.raises(RuntimeError, match="NaN"):
        RestoringBaseline(FunctionRestorer("bad", lambda frames: frames / 0 * 0))(clip)


def test_names(registered):
    assert restorers() == ["basicvsr", "grain", "soft", "x4_upscaler"]
    with pytest.raises(ValueError, match="did you mean 'grain'"):
        create_restorer("grian")
    with pytest.raises(ValueError, match=r"restorer grain: .*'wheels'"):
        create_restorer("grain", wheels=2)
    with pytest.raises(ValueError, match="is there already"):
        register_restorer("x4_upscaler")(Grain)
    with pytest.raises(ValueError, match="lower case"):
        register_restorer("Grain")


def test_in_a_sweep(registered, embedded, clips, tmp_path):
    plan = SweepPlan(
        iterations=(0,),
        strengths=(0.4,),
        seeds=(0, 1),
        num_inference_steps=6,
        metrics=("mse", "spatial_frequency"),
        restorers=("soft", {"name": "grain", "options": {"amount": 0.2}, "label": "coarse"}, "grain"),
    )
    rows = run_plan(embedded, clips, plan, tmp_path)
    assert [(row["clip"], row["method"], row["seed"]) for row in rows if row["strength"] is None] == [
        (clip, method, seed) for clip in "ab" for method in ("soft", "coarse", "grain") for seed in (0, 1)
    ]
    mse = {(row["clip"], row["method"], row["seed"]): row["mse"] for row in rows}
    assert mse["a", "soft", 0] == mse["a", "soft", 1] != mse["b", "soft", 0]
    assert mse["a", "grain", 0] != mse["a", "grain", 1] and mse["a", "coarse", 0] > 2 * mse["a", "grain", 0]
    own = torch.nn.functional.mse_loss(soft(clips[0].frames), clips[0].frames)
    assert mse["a", "soft", 0] == pytest.approx(float(own), rel=1e-4)
    assert all("psnr_to_original" in row and row["label"] == row["method"] for row in rows if row["strength"] is None)
    # Cells: per clip one of soft, two of each grain, two of SDEdit.
    assert len(list(tmp_path.glob("*.json"))) == 2 * (1 + 2 + 2 + 2)
    assert run_plan(embedded, clips, plan, tmp_path) == rows
    alone = run_plan(embedded, clips, plan.model_copy(update={"overlap": 2}), tmp_path / "alone")
    assert [row["mse"] for row in alone] == pytest.approx([row["mse"] for row in rows], rel=1e-5)


def test_a_plan_that_cannot_be(registered):
    for wrong, words in (
        (["grian"], "did you mean 'grain'"),
        (["grain", "grain"], "the name 'grain' is taken"),
        ([{"name": "grain", "label": "sdedit"}], "the name 'sdedit' is taken"),
    ):
        with pytest.raises(ValueError, match=words):
            SweepPlan(restorers=wrong)


EXPERIMENT = """version: 1
experiment: rivals
settings: {num_inference_steps: 6, strength: 0.4}
arms:
  sdedit: sdedit
  soft: {refiner: restorer, restorer: soft}
  grain: {refiner: restorer, restorer: {name: grain, options: {amount: 0.3}}}
control: sdedit
clips: [a.mp4, b.mp4, c.mp4]
primary: mse
"""


def test_in_an_experiment(registered, tmp_path):
    for seed, name in enumerate("abc"):
        with FrameWriter(tmp_path / f"{name}.mp4", 8) as writer:
            writer.write(noisy(textured(2, 32, 48), 0.05, seed))
    path = tmp_path / "rivals.yaml"
    path.write_text(EXPERIMENT)
    run = OfflineRun(load_config(path), tmp_path, tmp_path / "out")
    assert run.run() == 9 and run.run() == 0
    results = read_results(tmp_path / "out")
    assert results.complete and results.manifest["restorers"]["grain"]["amount"] == 0.3
    soft_arm = results.records["a", 0, "soft"]
    assert soft_arm["receipt"]["baseline"]["method"] == "soft" and results.clip("a", "soft") is not None
    assert {"mse", "ssim", "seconds"} <= soft_arm["metrics"].keys()
    assert not {"evaluations", "content_loss"} & soft_arm["metrics"].keys()
    assert {"evaluations", "content_loss"} <= results.records["a", 0, "sdedit"]["metrics"].keys()
    analysis, _ = analyze_folder(tmp_path / "out")
    assert {comparison.arm for comparison in analysis.comparisons if comparison.metric.name == "mse"} == {
        "soft",
        "grain",
    }
    assert main(["ab", "analyze", str(tmp_path / "out"), "--html", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "grain" in page and "soft" in page


def test_an_experiment_without_restorers_is_what_it_was(tmp_path):
    """Its cells are found under the key of its manifest: nothing may be added to it."""
    with FrameWriter(tmp_path / "a.mp4", 8) as writer:
        writer.write(textured(1, 32, 48))
    config = ExperimentConfig(
        version=1, experiment="x", arms={"a": "nc", "b": "sdedit"}, control="b", clips=[str(tmp_path / "a.mp4")]
    )
    manifest = OfflineRun(config, tmp_path, tmp_path / "out").manifest
    assert "restorers" not in manifest and all("restorer" not in arm for arm in manifest["config"]["arms"].values())


def test_arms_that_cannot_be(registered, tmp_path):
    for wrong, words in (
        ({"refiner": "restorer"}, "go together"),
        ({"refiner": "nc", "restorer": "soft"}, "go together"),
        ({"refiner": "restorer", "restorer": "soft", "iterations": 2}, "takes no iterations"),
        ({"refiner": "restorer", "restorer": "sofd"}, "did you mean 'soft'"),
    ):
        with pytest.raises(ValueError, match=words):
            ArmConfig(**wrong)
    path = tmp_path / "x.yaml"
    path.write_text(EXPERIMENT.replace("primary: mse", "primary: content_loss"))
    with pytest.raises(ConfigError, match="content_loss cannot decide: arm soft restores"):
        load_config(path)
