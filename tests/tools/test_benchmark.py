"""The benchmark's parts at tiny size: what they compute, never how fast."""

from __future__ import annotations

import json

import benchmark
import numpy as np
import pytest
import torch
from benchmarks import clips, core, core_report, memory, overhead, quality, timing
from benchmarks.filters import measure_filter, our_excess, published_excess, published_low_pass
from benchmarks.tables import table

from nc_refiner.clip import VideoClip
from nc_refiner.frequency import LowPass
from nc_refiner.refining.receipt import peak_memory_bytes

from ..published import low_pass

STEPS = 10


@pytest.fixture(scope="module")
def tiny() -> clips.EvaluationClip:
    original = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    return clips.EvaluationClip("tiny", VideoClip(original * 0.9), original)


@pytest.fixture(scope="module")
def measured(embedded, tiny) -> dict:
    """Everything `core.measure` returns, at a size of no time."""
    result = {
        "environment": dict.fromkeys(
            ("nc_refiner", "torch", "python", "platform", "cpu", "cores", "threads", "load_before", "load_after"), "?"
        ),
        "settings": {"quick": True, "repeats": 1, "filter_shape": [1, 2, 1, 8, 10]},
        "filter": measure_filter((1, 2, 1, 8, 10), core.FILTER_CUTOFFS, 1),
        "overhead": overhead.measure_overhead(embedded, (2, 16, 32), (0.5, 1.0), (1, 3), 1),
        "quality": quality.measure_quality(embedded, [tiny], STEPS),
        "memory": {"clip": [1, 16, 26], "sdedit": 100, "calibrated": 103, "ready": 50, "latent": 2, "ratio": 1.03},
        "seconds": 1.0,
    }
    result["memory"]["allowed"] = 104
    result["bars"] = core_report.bars(result)
    return result


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (9, 5), (30, 32)])
@pytest.mark.parametrize("cutoff", [0.0, 0.25, 0.5, 0.7, 1.0])
def test_published_torch_form_is_the_published_filter_and_ours(height, width, cutoff):
    x, y = torch.randn(2, 2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # At cutoff 1 the independent form and ours are the identity by definition; the box is that for even sizes only.
    if cutoff < 1 or (height % 2 == 0 and width % 2 == 0):
        np.testing.assert_allclose(published_low_pass(x, cutoff).numpy(), low_pass(x.numpy(), cutoff), atol=1e-12)
        ours = our_excess(x, y, LowPass(height, width, cutoff))
        torch.testing.assert_close(published_excess(x, y, cutoff), ours, atol=1e-12, rtol=0)


def test_filter_rows_agree_in_float32(measured):
    assert [row["cutoff"] for row in measured["filter"]] == [0.25, 0.5, 0.75, 1.0]
    assert all(row["max_difference"] < 1e-5 and row["ratio"] > 0 for row in measured["filter"])


def test_evaluations_are_counted_exactly(measured):
    found = measured["quality"]
    s = found["steps"]
    assert s == 4
    assert [v["evaluations"] for v in found["variants"]] == [s, s + 1, s + 2, s + 3, s, s + 1, s + 2]
    assert all(v["evaluations"] == v["expected"] for v in found["variants"])


def test_fidelity_is_to_the_input_and_to_the_original(measured, tiny):
    unrefined = measured["quality"]["input"]
    assert unrefined["mse"] == 0 and unrefined["ssim"] == pytest.approx(1)
    error = float((0.1 * tiny.original.double()).square().mean())
    assert unrefined["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_a_wrong_count_misses_its_bar(measured):
    assert {bar["name"]: bar["met"] for bar in measured["bars"]}["evaluations S, S+N, reuse S+N-1"]
    broken = json.loads(json.dumps(measured))
    broken["quality"]["variants"][1]["per_clip"][0]["evaluations"] += 1
    bar = next(bar for bar in core_report.bars(broken) if bar["name"].startswith("evaluations"))
    assert not bar["met"] and bar["found"] == "N = 1"


def test_report_fits_a_terminal(measured):
    text = core_report.render(measured)
    assert max(map(len, text.splitlines())) <= 80
    assert all(word in text for word in ("Filter step", "Calibration", "SDEdit", "N = 3, reuse", "Peak memory", "Bars"))


def test_memory_is_that_of_fresh_processes():
    held = torch.ones(64, 2**20)  # 256 MiB in this process must not show in the children
    found = memory.measure_memory(frames=1, height=16, steps=3, threads=1, repeats=1)
    assert found["latent"] > 0 and held.numel() > 0
    assert found["ready"] <= found["sdedit"] < (peak_memory_bytes(torch.device("cpu")) or 0)
    assert found["ratio"] == found["calibrated"] / found["sdedit"]
    assert found["allowed"] == found["sdedit"] * 1.02 + found["latent"]


def test_demo_can_be_made_small():
    clip = clips.demo(small=True, frames=2, height=32)
    assert clip.degraded.frames.shape == clip.original.shape
    assert clip.original.shape[:3] == (2, 3, 32)
    assert not torch.equal(clip.degraded.frames, clip.original)


def test_folder_of_clips(tmp_path):
    (tmp_path / "one.mp4").write_bytes(clips.demo_clip()[1].read_bytes())
    (tmp_path / "notes.txt").write_text("no clip")
    assert [clip.name for clip in clips.from_folder(tmp_path, frames=2, height=32)] == ["one"]


@pytest.mark.parametrize(("made", "words"), [(False, "not a folder"), (True, "holds no video")])
def test_bad_folder_is_one_line(tmp_path, capsys, made, words):
    folder = tmp_path / "clips"
    if made:
        folder.mkdir()
    threads = torch.get_num_threads()
    assert benchmark.main(["core", "--quick", "--threads", str(threads), "--clips", str(folder)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_bad_numbers_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["core", "--threads", "0"])
    assert stop.value.code == 2
    assert "below 1" in capsys.readouterr().err


def test_core_writes_one_json_object(monkeypatch, capsys, measured):
    monkeypatch.setattr(core, "measure", lambda arguments: measured)
    assert benchmark.main(["core", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bars"] == measured["bars"]
    assert benchmark.main(["core"]) == 0
    assert capsys.readouterr().out == core_report.render(measured)


def test_rounds_are_interleaved():
    order: list[str] = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert len(times["a"].wall) == len(times["b"].cpu) == 2
    assert timing.ratio((4.0, 6.0, 100.0), (2.0, 2.0, 20.0)) == 3


def test_table_is_aligned():
    lines = table("T", ["name", "n"], [["a", "10"], ["bcdef", "1"]]).splitlines()
    assert lines == ["T", "  name    n", "  a      10", "  bcdef   1", ""]
