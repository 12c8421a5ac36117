"""`nc-refiner refine` on good input: what it writes, prints and repeats."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from nc_refiner.video import probe

from ..video.conftest import make_video, moving
from .conftest import FAST, Call, contents

FILES = ["out.compare.mp4", "out.contact.png", "out.json", "out.mp4", "out.receipt.json", "out.sdedit.mp4"]


def test_compare_as_json(call: Call, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    outcome = call("refine", tiny, output, "--compare", "--json", "--iterations", 2, "--seed", 7, *FAST)
    report = json.loads(outcome.out)
    assert outcome.code == 0 and outcome.err == "nc-refiner: refining, 0 of 6 steps\n"
    for name, losses in (("sdedit", 0), ("calibrated", 2)):
        numbers = report[name]
        assert len(numbers["content_loss"]) == losses
        assert {"mse", "mse_low", "ssim", "spatial_frequency", "psnr"} <= numbers.keys()
        assert all(isinstance(numbers[key], float) for key in numbers.keys() - {"content_loss"})
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert {Path(path).name for path in report["files"].values()} == set(FILES)
    assert (report["seed"], report["iterations"], report["strength"]) == (7, 2, 0.5)
    for name in ("out.mp4", "out.sdedit.mp4", "out.compare.mp4"):
        assert probe(tmp_path / name).frames == 4
    receipt = json.loads((tmp_path / "out.receipt.json").read_text())
    assert receipt["files"] == FILES and receipt["content_loss"] == report["calibrated"]["content_loss"]
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["seed"] == 7 and len(sidecar["history"]) == 1 and "N=2" in sidecar["history"][0]


def test_no_iterations_is_sdedit(call: Call, tiny: Path, tmp_path: Path) -> None:
    assert call("refine", tiny, tmp_path / "out.mp4", "--compare", "--iterations", 0, *FAST).code == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "out.sdedit.mp4").read_bytes()


@pytest.mark.parametrize("columns", ["80", "40"])
def test_the_table_is_readable(
    call: Call, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    outcome = call("refine", tiny, tmp_path / "o[x].mp4", "--compare", "--original", tiny, *FAST)
    lines = outcome.out.splitlines()
    heads = [line for line in lines if line.split()[:4] == ["MSE", "MSE_low", "SSIM", "PSNR"]]
    assert len(heads) == 1 and "PSNR to original" in heads[0]
    rows = {line.split("  ")[0].strip(): line for line in lines}
    assert {"reference", "SDEdit", "calibrated, N = 3"} <= rows.keys()
    assert len(rows["SDEdit"].split()) == 7 and len(rows["calibrated, N = 3"].split()) == 10
    assert "…" not in outcome.out and str(tmp_path / "o[x].mp4") in outcome.out
    table = lines[lines.index(heads[0]) : lines.index(rows["calibrated, N = 3"]) + 1]
    assert len(table) == 5 and max(map(len, table)) <= 80


@pytest.mark.parametrize(
    "options", [(), ("--start-timestep", 450, "--reuse-prediction", "--cutoff", 0.4, "--height", 48)]
)
def test_a_receipt_repeats_the_run(call: Call, tiny: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    schedule = ("--num-inference-steps", 4) if options else FAST
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    made = call("refine", tiny, first, "--seed", 11, "--iterations", 2, "--max-frames", 3, *schedule, *options)
    again = call("refine", tiny, second, "--from-receipt", tmp_path / "first.receipt.json")
    assert (made.code, again.code) == (0, 0)
    assert first.read_bytes() == second.read_bytes()
    one, two = (json.loads((tmp_path / f"{name}.receipt.json").read_text()) for name in ("first", "second"))
    same = ("calibration", "timesteps", "content_loss", "windows", "evaluations", "reading", "input", "degradations")
    assert {key: one[key] for key in same} == {key: two[key] for key in same}
    changed = call("refine", tiny, tmp_path / "third.mp4", "--seed", 12, "--max-frames", 3, *schedule)
    assert changed.code == 0 and (tmp_path / "third.mp4").read_bytes() != first.read_bytes()


def test_a_receipt_on_another_input_says_so(call: Call, tiny: Path, plain_copy: Path, tmp_path: Path) -> None:
    assert call("refine", tiny, tmp_path / "first.mp4", *FAST).code == 0
    receipt = json.loads((tmp_path / "first.receipt.json").read_text())
    receipt["versions"]["torch"] = "1.0"
    (tmp_path / "old.json").write_text(json.dumps(receipt))
    outcome = call("refine", plain_copy, tmp_path / "b.mp4", "--from-receipt", tmp_path / "old.json", "--json")
    notes = json.loads(outcome.out)["degradations"]
    assert any("another input" in note for note in notes) and any("torch 1.0 →" in note for note in notes)


@pytest.fixture
def plain_copy(tmp_path: Path) -> Path:
    """Two frames of another size."""
    return make_video(tmp_path / "plain.mp4", moving(2, 32, 48))


def test_a_stray_sidecar_is_one_note(call: Call, plain_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text("[1]")
    outcome = call("refine", plain_copy, tmp_path / "out.mp4", "--json", *FAST)
    assert outcome.code == 0 and json.loads(outcome.out)
    first, second = outcome.err.splitlines()
    assert first.startswith("nc-refiner: note: ") and "plain.json is ignored" in first and "steps" in second
    assert warnings.showwarning.__module__ != "nc_refiner.cli.main"


def test_prompt_and_history_come_from_the_sidecar(call: Call, plain_copy: Path, tmp_path: Path) -> None:
    stored = {"fps": 99, "prompt": "a camel", "seed": 4, "history": ["made"]}
    (tmp_path / "plain.json").write_text(json.dumps(stored))
    report = json.loads(call("refine", plain_copy, tmp_path / "out.mp4", "--json", *FAST).out)
    sidecar = json.loads((tmp_path / "out.json").read_text())
    receipt = json.loads((tmp_path / "out.receipt.json").read_text())
    assert sidecar["prompt"] == receipt["settings"]["prompt"] == "a camel" and sidecar["history"][0] == "made"
    assert any("prompt ignored" in note for note in report["degradations"])
    # A rate that contradicts the video does not change its speed.
    assert report["clip"]["fps"] == sidecar["fps"] == 8
    assert call("refine", plain_copy, tmp_path / "own.mp4", "--prompt", "a cat", *FAST).code == 0
    assert json.loads((tmp_path / "own.json").read_text())["prompt"] == "a cat"


def test_sound_is_kept(call: Call, tmp_path: Path) -> None:
    source = make_video(tmp_path / "audio.mp4", moving(8, 32, 48), audio="aac", audio_seconds=1.0)
    assert call("refine", source, tmp_path / "out.mp4", *FAST).code == 0
    assert probe(tmp_path / "out.mp4").audio
    report = json.loads(call("refine", source, tmp_path / "cut.mp4", "--max-frames", 4, "--json", *FAST).out)
    assert probe(tmp_path / "cut.mp4").audio
    assert [note for note in report["degradations"] if "audio" in note] == [
        "audio cut to the 0.50 seconds of the video"
    ]


def test_a_variable_frame_rate_is_reported(call: Call, tmp_path: Path) -> None:
    source = make_video(tmp_path / "vfr.mp4", moving(4, 32, 48), times=[0, 40, 300, 400])
    outcome = call("refine", source, tmp_path / "out.mp4", *FAST)
    assert outcome.code == 0 and "note: variable frame rate" in outcome.out


def test_a_picture_stays_a_picture(call: Call, tmp_path: Path) -> None:
    pixels = moving(1, 50, 37)[0].mul(255).byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(tmp_path / "in.png")
    assert call("refine", tmp_path / "in.png", tmp_path / "out.png", "--compare", *FAST).code == 0
    assert Image.open(tmp_path / "out.png").size == Image.open(tmp_path / "out.sdedit.png").size == (37, 50)
    assert probe(tmp_path / "out.compare.mp4").frames == 1


def test_vertical_and_odd_sizes(call: Call, tmp_path: Path) -> None:
    source = make_video(tmp_path / "odd.mkv", moving(2, 67, 35), codec="ffv1", pix_fmt="bgr0", options={})
    report = json.loads(call("refine", source, tmp_path / "out.mp4", "--compare", "--json", *FAST).out)
    assert (report["clip"]["height"], report["clip"]["width"]) == (67, 35)
    assert any("padded from 35x67 to 36x68" in note for note in report["degradations"])
    assert (probe(tmp_path / "out.mp4").width, probe(tmp_path / "out.mp4").height) == (36, 68)


def test_a_long_clip_goes_through_windows(call: Call, tmp_path: Path) -> None:
    source = make_video(tmp_path / "long.mp4", moving(20, 32, 32))
    outcome = call("refine", source, tmp_path / "out.mp4", "--window", 8, "--overlap", 2, "--compare", "--json", *FAST)
    report = json.loads(outcome.out)
    assert probe(tmp_path / "out.mp4").frames == 20 == probe(tmp_path / "out.compare.mp4").frames
    receipt = json.loads((tmp_path / "out.receipt.json").read_text())
    assert [window["first"] for window in receipt["windows"]] == [0, 6, 12]
    assert report["evaluations"]["calibrated"] == {"calibration": 9, "denoising": 3}
    assert outcome.err == "nc-refiner: refining, 0 of 21 steps\n"
    assert any("share 2, calibrated as one clip" in note for note in report["degradations"])
    assert receipt["seams"] == [[6, 7], [12, 13]]
    call("refine", source, tmp_path / "s.mp4", "--window", 8, "--overlap", 2, "--max-latents-gib", 0, *FAST)
    streamed = json.loads((tmp_path / "s.receipt.json").read_text())
    assert any("faded in pixels: its latents would take" in note for note in streamed["degradations"])
    again = call("refine", source, tmp_path / "t.mp4", "--from-receipt", tmp_path / "s.receipt.json")
    assert again.code == 0 and (tmp_path / "t.mp4").read_bytes() == (tmp_path / "s.mp4").read_bytes()


def test_files_of_a_comparison_stay_replaceable(call: Call, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    for options in (("--compare",), (), ("--compare",)):
        assert call("refine", tiny, output, *options, *FAST).code == 0
    assert sorted(contents(tmp_path)) == FILES


def test_a_link_is_written_through(call: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    assert call("refine", tiny, tmp_path / "out.mp4", *FAST).code == 0
    assert (tmp_path / "out.mp4").is_symlink() and probe(tmp_path / "elsewhere.mp4").frames == 4


def test_the_demo(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--max-frames", 2, "--height", 64, *FAST)
    assert "device 'gpu7'" in call("refine", "--demo", "--device", "gpu7").line
    assert "seed is -1" in call("refine", "--demo", "--seed", -1).line
    assert "window is 99" in call("refine", "--demo", "--window", 99).line
    assert list(tmp_path.iterdir()) == []
    report = json.loads(call("refine", "--demo", "--json", *small).out)
    assert report["files"]["output"] == "nc_refiner_demo/refined.mp4"
    assert all(report[name]["psnr_to_original"] > 15 for name in ("reference", "sdedit", "calibrated"))
    assert len(list((tmp_path / "nc_refiner_demo").iterdir())) == 6
    assert call("refine", "--demo", *small).code == 0
    outcome = call("refine", "--demo", "own.mp4", "--height", 32, *FAST)
    assert outcome.code == 0 and "detail of the undegraded original" in outcome.out
    assert outcome.out.startswith("10 frames of ") and probe(tmp_path / "own.mp4").frames == 10
    assert (tmp_path / "own.compare.mp4").is_file()
    for clash in (("--demo", "a.mp4", "b.mp4"), ("--demo", "--original", "a.mp4")):
        assert "--demo brings its own" in call("refine", *clash).line


def test_a_noisy_adapter_cannot_spoil_the_json(
    call: Call, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from nc_refiner.adapters.embedded import EmbeddedRefiner

    encode = EmbeddedRefiner.encode

    def loud(self: EmbeddedRefiner, *arguments: object) -> torch.Tensor:
        sys.stdout.write("loading…\n")
        return encode(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EmbeddedRefiner, "encode", loud)
    outcome = call("refine", tiny, tmp_path / "out.mp4", "--json", *FAST)
    assert json.loads(outcome.out) and "loading…" in outcome.err


@pytest.mark.slow
def test_calibration_keeps_a_real_clip(call: Call, clips: Path, tmp_path: Path) -> None:
    source = clips / "published" / "vc_0240_reference.mp4"
    options = ("--max-frames", 8, "--height", 160, "--num-inference-steps", 10)
    outcome = call("refine", source, tmp_path / "out.mp4", "--compare", "--json", *options)
    report = json.loads(outcome.out)
    assert report["calibrated"]["mse"] < report["sdedit"]["mse"]
    assert report["calibrated"]["ssim"] > report["sdedit"]["ssim"]
    loss = report["calibrated"]["content_loss"]
    assert loss == sorted(loss, reverse=True) and len(loss) == 3


def test_a_comparison_at_another_size_is_measured_there(call: Call, tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "large.mp4"
    outcome = call("refine", tiny, target, "--compare", "--original", tiny, "--scale", 1.5, "--json", *FAST)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert probe(target).height == probe(target).width == 96
    assert report["calibrated"]["psnr_to_original"] == pytest.approx(report["calibrated"]["psnr"])
    assert report["calibrated"]["mse"] < report["sdedit"]["mse"]


def test_a_mask_and_all_that_goes_beyond_the_paper(call: Call, tiny: Path, tmp_path: Path) -> None:
    mask, output = tmp_path / "mask.png", tmp_path / "out.mp4"
    Image.linear_gradient("L").save(mask)
    beyond = ["--cutoff-outside", 0.2, "--objective", "colour_safe", "--cutoff-time", 0.5, "--hold", 0.5]
    assert call("refine", tiny, output, "--iterations", 1, "--mask", mask, *beyond, *FAST).code == 0
    asked = json.loads((tmp_path / "out.receipt.json").read_text())["calibration"]
    assert asked["mask"]["file"] == str(mask) and len(asked["mask"]["sha256"]) == 64
    assert (asked["cutoff_outside"], asked["objective"], asked["cutoff_time"], asked["hold"]) == (
        0.2, "colour_safe", 0.5, 0.5,
    )  # fmt: skip
    again = tmp_path / "again.mp4"
    assert call("refine", tiny, again, "--from-receipt", tmp_path / "out.receipt.json").code == 0
    assert again.read_bytes() == output.read_bytes()
    for wrong, words in (
        (["--mask", tmp_path / "none.png"], "no such file"),
        (["--mask", tmp_path / "out.json"], "out.json"),
        (["--cutoff-outside", 0.2], "no mask"),
        (["--objective", "vivid"], "allowed: paper, colour_safe"),
        (["--hold", 2], r"[0, 1]"),
    ):
        before = contents(tmp_path)
        told = call("refine", tiny, tmp_path / "bad.mp4", *wrong, *FAST)
        assert told.code == 2 and words in told.line and contents(tmp_path) == before
