"""Text-to-video → calibrated video-to-video on ModelScope's real pipelines: in one process, and as a cascade."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nc_refiner
from nc_refiner.adapters.modelscope.sources import TextToVideo
from nc_refiner.refiner import CalibratedRefiner
from nc_refiner.video import read_clip, write_clip

from ..cli.conftest import Call, call  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
FILES = ("base.mp4", "base.frames.mkv", "refiner.mp4", "refiner.frames.mkv", "final.mp4")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(models: Any) -> Any:
    """What text-to-video makes of a prompt."""
    return TextToVideo(str(models.text), device="cpu")("a dog in the snow", 7, height=64, width=64)


def test_clips_in_memory(tiny, made):
    refiner = CalibratedRefiner.from_name("modelscope", {"pipe": tiny.pipe}, iterations=2)
    result = refiner(made, prompt=made.prompt, num_inference_steps=3, seed=1)
    assert result.clip.frames.shape == made.frames.shape and len(result.trace.content_loss) == 2
    assert result.receipt["evaluations"] == {"calibration": 2 * 2, "denoising": 2 * 2}
    assert torch.equal(result.clip.frames, refiner(made, prompt=made.prompt, num_inference_steps=3, seed=1).clip.frames)
    plain = refiner.with_calibration(iterations=0)(made, prompt=made.prompt, num_inference_steps=3, seed=1)
    assert not torch.equal(result.clip.frames, plain.clip.frames)


def test_the_hosts_own_call(tiny, made, counted, ffmpeg, tmp_path):
    """A prompt's clip as a file, then `pipe({...}, output_video=...)` of the wrapped pipeline."""
    write_clip(made, tmp_path / "base.mp4")
    twin = nc_refiner.wrap(tiny.pipe, iterations=2)
    asked = {"video_path": str(tmp_path / "base.mp4"), "text": made.prompt}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = twin(asked, output_video=str(tmp_path / "out.mp4"))
    written = read_clip(found["output_video"])
    assert len(written) == len(made) and (written.height, written.width) == (80, 64)
    assert counted.count == 2 * 30 + 2 and len(twin.calibration_trace.content_loss) == 2


@pytest.fixture
def config(models: Any, tmp_path: Path) -> Path:
    path = tmp_path / "cascade.yaml"
    path.write_text(
        f"""version: 1
prompt: a dog in the snow
seed: 7
base: {{type: modelscope, model: {models.text}, device: cpu, height: 64, width: 64}}
refiner:
  type: nc
  iterations: 2
  num_inference_steps: 3
  window: 4
  overlap: 1
  backbone: {{adapter: modelscope, model: {models.video}, device: cpu}}
""",
        encoding="utf-8",
    )
    return path


def folder(report: dict[str, Any]) -> Path:
    """Where the run of its one prompt is, which succeeded."""
    (item,) = report["items"]
    assert item["error"] is None and not report["failed"], item
    return Path(item["final"]).parent


def receipt(place: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / f"{stage}.receipt.json").read_text(encoding="utf-8"))
    return found


def test_cascade(config, made, tmp_path, call: Call):  # noqa: F811
    """From a prompt to an mp4 in this process; again in another one, byte for byte; resumed, with nothing to do; not
    calibrated; and with frames put in between."""
    outcome = call("cascade", config, "--output", tmp_path / "first", "--json")
    assert outcome.code == 0, outcome.err
    first = folder(json.loads(outcome.out))
    final = read_clip(first / "final.mp4")
    assert (len(final), final.height, final.width, final.fps) == (4, 64, 64, 8.0)
    assert read_clip(first / "refiner.mp4").prompt == made.prompt
    rounded = made.frames.mul(255).round().to(torch.uint8)
    base = read_clip(first / "base.frames.mkv", exact_colour=True).frames.mul(255).round().to(torch.uint8)
    assert torch.equal(base, rounded), "the base is the source, from the same prompt and seed"
    found = receipt(first, "refiner")
    assert found["calibration"]["iterations"] == 2 and len(found["content_loss"]) == 2
    assert found["evaluations"] == {"calibration": 2 * 2, "denoising": 2 * 2}
    assert found["adapter"]["pipeline"] == "VideoToVideoPipeline" and found["adapter"]["solver"] == "dpmpp_2m_sde"
    assert "padded by 0 columns and 16 rows to fit the model, cut off again" in found["degradations"]

    command = [sys.executable, "-m", "tests.hosts.small_cli", "cascade", str(config)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "second"), "--json"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, **threads}, timeout=540,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    second = folder(json.loads(done.stdout))
    assert {name: (second / name).read_bytes() for name in FILES} == {
        name: (first / name).read_bytes() for name in FILES
    }

    again = call("cascade", config, "--output", tmp_path / "first", "--resume", "--json")
    assert json.loads(again.out)["items"][0]["stages"] == {"base": "skipped", "refiner": "skipped"}

    shutil.copytree(tmp_path / "first", tmp_path / "sdedit")
    outcome = call(
        "cascade", config, "--output", tmp_path / "sdedit", "--resume", "--set", "refiner.iterations=0", "--json"
    )
    plain = folder(json.loads(outcome.out))
    assert receipt(plain, "refiner")["evaluations"] == {"calibration": 0, "denoising": 3 * 2}
    assert (plain / "final.mp4").read_bytes() != (first / "final.mp4").read_bytes()

    for kind in ("blend", "flow"):
        shutil.copytree(tmp_path / "first", tmp_path / kind)
        between = ("--resume", "--set", f"interpolation={kind}")
        outcome = call("cascade", config, "--output", tmp_path / kind, *between, "--json")
        report = json.loads(outcome.out)
        assert report["items"][0]["stages"] == {"base": "skipped", "interpolation": "done", "refiner": "done"}
        longer = read_clip(folder(report) / "final.mp4")
        assert len(longer) == 7 and longer.fps == 16.0
        found = receipt(folder(report), "refiner")
        assert found["evaluations"] == {"calibration": 2 * 2 * 2, "denoising": 2 * 2 * 2}, "two windows of four frames"


def test_cascade_from_a_picture(config, models, pictures, tmp_path, call: Call):  # noqa: F811
    base = f"base={{type: modelscope_image, image: {pictures[0]}, model: {models.image}, device: cpu}}"
    outcome = call("cascade", config, "--output", tmp_path / "out", "--set", base, "--json")
    assert outcome.code == 0, outcome.err
    place = folder(json.loads(outcome.out))
    assert place.name == "000-first"
    final = read_clip(place / "final.mp4")
    assert (len(final), final.height, final.width) == (4, 64, 128)
    assert read_clip(place / "refiner.mp4").prompt == "a dog in the snow"
    assert receipt(place, "refiner")["evaluations"] == {"calibration": 2 * 2, "denoising": 2 * 2}
    assert receipt(place, "base")["input"] == str(pictures[0])
