"""What runs behind the page: two refinements and their comparison, stopped when asked, refused in words."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nc_refiner import CalibratedRefiner
from nc_refiner.app.job import Cancelled, Job, Limits, Wanted
from nc_refiner.app.recipes import as_python, as_yaml
from nc_refiner.cascade.config import load_config
from nc_refiner.config.refiner import RefinerDescription
from nc_refiner.video import probe, read_clip

from ..video.conftest import make_video, moving

SMALL = RefinerDescription.model_validate({"iterations": 2, "strength": 0.5, "num_inference_steps": 4})


@pytest.fixture(scope="module")
def job() -> Job:
    pytest.importorskip("jinja2", reason="needs the app extra")
    return Job(Limits(megabytes=1, frames=4))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "mine.mp4", moving(6, 32, 48))


def run(job: Job, wanted: Wanted, folder: Path) -> tuple[Any, list[tuple[float, str]]]:
    said: list[tuple[float, str]] = []
    folder.mkdir(exist_ok=True)
    return job.run(wanted, folder, lambda share, text: said.append((share, text)), threading.Event()), said


def test_a_run_leaves_both_clips_a_receipt_and_the_comparison(job, clip, tmp_path):
    outcome, said = run(job, Wanted(clip, SMALL, seed=3, frames=100), tmp_path / "out")
    assert [probe(path).frames for path in (outcome.source, outcome.sdedit, outcome.clip)] == [4, 4, 4]
    receipt = json.loads(outcome.receipt.read_text(encoding="utf-8"))
    assert receipt["settings"]["seed"] == 3 and len(outcome.content_loss) >= 2
    assert "sdedit.mp4" in outcome.report and "refined.mp4" in outcome.report and "<video" in outcome.report
    shares = [share for share, _ in said]
    assert shares == sorted(shares) and shares[-1] == 1.0 and any("SDEdit" in text for _, text in said)


def test_a_tall_clip_is_made_as_small_as_the_machine_allows(clip, tmp_path):
    job = Job(Limits(frames=1, height=16))
    for height in (None, 24):
        outcome, _ = run(job, Wanted(clip, SMALL, height=height), tmp_path / f"out{height}")
        assert probe(outcome.clip).height == 16


def test_it_is_the_refiners_own_result(job, clip, tmp_path):
    outcome, _ = run(job, Wanted(clip, SMALL, seed=5, frames=3), tmp_path / "out")
    refiner = CalibratedRefiner.from_name("embedded", iterations=2)
    result = refiner(read_clip(clip, max_frames=3), seed=5, strength=0.5, num_inference_steps=4)
    assert result.trace.content_loss == outcome.content_loss


def test_asked_to_stop_it_stops_and_the_next_one_runs(job, clip, tmp_path):
    cancelled = threading.Event()
    seen = []

    def progress(share: float, text: str) -> None:
        seen.append(text)
        if share > 0:
            cancelled.set()

    (tmp_path / "stopped").mkdir()
    with pytest.raises(Cancelled):
        job.run(Wanted(clip, SMALL), tmp_path / "stopped", progress, cancelled)
    assert len([text for text in seen if "SDEdit" in text]) == 1 and not list((tmp_path / "stopped").iterdir())
    outcome, _ = run(job, Wanted(clip, SMALL, frames=2), tmp_path / "next")
    assert outcome.clip.is_file()


def test_who_waits_for_the_device_can_leave(job, clip, tmp_path):
    cancelled = threading.Event()
    with job._turn:
        cancelled.set()
        with pytest.raises(Cancelled):
            job.run(Wanted(clip, SMALL), tmp_path, lambda *_: None, cancelled)


def test_what_cannot_be_taken_is_refused_in_words(job, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2_000_000))
    with pytest.raises(ValueError, match="the file has 2 MB; this page takes up to 1 MB"):
        run(job, Wanted(large, SMALL), tmp_path / "out")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video" * 100)
    with pytest.raises(ValueError) as found:
        run(job, Wanted(broken, SMALL), tmp_path / "out")
    assert "broken.mp4" in str(found.value) and str(tmp_path) not in str(found.value)


def test_the_recipes_repeat_the_run(job, clip, tmp_path, monkeypatch):
    wanted = Wanted(clip, SMALL, seed=7, frames=3, height=32)
    outcome, _ = run(job, wanted, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    clip.rename(tmp_path / "in.mp4")
    names: dict[str, Any] = {}
    exec(as_python(wanted), names)
    assert torch.equal(read_clip(tmp_path / "refined.mp4").frames, read_clip(outcome.clip).frames)
    (tmp_path / "cascade.yaml").write_text(as_yaml(wanted), encoding="utf-8")
    config = load_config(tmp_path / "cascade.yaml")
    assert config.seed == 7 and config.refiner.iterations == 2 and config.refiner.strength == 0.5
    bundled = as_python(Wanted(description=SMALL))
    assert "demo_clip()" in bundled and yaml.safe_load(as_yaml(Wanted(description=SMALL)))["refiner"]["iterations"] == 2
    compile(bundled, "bundled", "exec")
