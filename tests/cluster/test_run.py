"""A run on Ray leaves what a serial run leaves, and what one clip does costs that clip alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nc_refiner.cascade import CascadeRunner, load_config
from nc_refiner.cascade.cluster import ClusterRunner, read_results
from nc_refiner.cascade.cluster.attempts import FILE

from .conftest import videos

WICKED = ["fine one", "raise it", "die at once", "fine two", "hang on", "fine late", "segfault now", "fine three"]


def rows(place: Any) -> dict[str, dict[str, Any]]:
    table = read_results(str(place)).to_pylist()
    found = {row["name"]: row for row in table}
    assert len(found) == len(table)
    return found


@pytest.mark.usefixtures("ray_here")
def test_the_same_bytes_and_each_goes_on_with_the_other(cheap, tmp_path):
    config = load_config(cheap([f"clip {index}" for index in range(6)]))
    CascadeRunner(config, output=tmp_path / "serial").run()
    summary = ClusterRunner(config, workers=2, output=tmp_path / "ray").run()
    assert not summary.failed
    assert videos(tmp_path / "ray") == videos(tmp_path / "serial") and len(videos(tmp_path / "ray")) == 30
    again = CascadeRunner(config, output=tmp_path / "ray", resume=True).run()
    assert {state for one in again.items for state in one.stages.values()} == {"skipped"}
    back = ClusterRunner(config, workers=2, output=tmp_path / "serial", resume=True).run()
    assert {state for one in back.items for state in one.stages.values()} == {"skipped"}
    table = rows(tmp_path / "ray")
    assert {row["status"] for row in table.values()} == {"done"} and len(table) == 6
    row = table["000-clip-0"]
    assert row["content_loss"] == [0.5] and row["evaluations"] == 3 and row["base_seconds"] >= 0
    assert Path(row["final"]).is_file() and row["seed"] == 7 and row["attempts"] == 1
    assert json.loads((tmp_path / "ray" / "summary.json").read_text("utf-8"))["failed"] == 0


@pytest.mark.usefixtures("ray_here")
def test_what_a_clip_does_costs_it_alone(cheap, tmp_path):
    config = load_config(cheap(WICKED))
    fine = [prompt for prompt in WICKED if prompt.startswith("fine") and "late" not in prompt]
    events: list[dict[str, Any]] = []
    runner = ClusterRunner(config, workers=2, output=tmp_path / "out", timeout=2.0, watch=events.append)
    summary = runner.run()
    assert {one.item.prompt for one in summary.items if not one.failed} == set(fine)
    found = {row["prompt"]: row for row in rows(tmp_path / "out").values()}
    assert len(found) == len(WICKED)
    told = {prompt: (found[prompt]["cause"], found[prompt]["error"]) for prompt in WICKED}
    assert told["raise it"] == ("failed", "base: no such clip, please")
    assert told["hang on"] == ("timeout", "base: ran longer than 2 s (2 times)")
    assert told["die at once"][0] == told["segfault now"][0] == told["fine late"][0] == "killed"
    assert "SIGKILL" in told["die at once"][1] and "SIGSEGV" in told["segfault now"][1]
    assert told["fine late"][1].startswith("refiner: ")
    assert found["die at once"]["attempts"] == 2 and found["raise it"]["attempts"] == 1
    report = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert report["failed"] == 5 and sum(group["clips"] for group in report["causes"]) == 5
    assert {event["event"] for event in events} == {"start", "begin", "stage", "clip", "end"}

    # Without being asked to, another run leaves them alone; asked to, it tries as often again.
    tries = (tmp_path / "out" / "002-die-at-once" / FILE).read_text("utf-8")
    again = ClusterRunner(config, workers=2, output=tmp_path / "out", timeout=2.0, resume=True).run()
    assert [one.error for one in again.items] == [one.error for one in summary.items]
    assert (tmp_path / "out" / "002-die-at-once" / FILE).read_text("utf-8") == tries
    more = {"timeout": 2.0, "resume": True, "retry_failed": True}
    ClusterRunner(config, workers=2, output=tmp_path / "out", max_attempts=3, **more).run()
    found = {row["prompt"]: row for row in rows(tmp_path / "out").values()}
    assert found["die at once"]["attempts"] == 3 and found["fine one"]["status"] == "done"


@pytest.mark.usefixtures("ray_here")
def test_stages_with_resources_have_pools_of_their_own(cheap, tmp_path):
    config = load_config(
        cheap(
            ["a", "b", "c"], "{type: cheap, resources: {cpus: 0.5, actors: 2}}", "{type: darker, resources: {cpus: 1}}"
        )
    )
    events: list[dict[str, Any]] = []
    runner = ClusterRunner(config, workers=1, output=tmp_path / "out", watch=events.append)
    assert not runner.run().failed
    assert events[0]["pools"] == [{"stages": ["base"], "actors": 2}, {"stages": ["refiner"], "actors": 1}]
    plain = load_config(cheap(["a", "b", "c"]))
    kept = CascadeRunner(plain, output=tmp_path / "out", resume=True).run()
    assert {state for one in kept.items for state in one.stages.values()} == {"skipped"}


@pytest.mark.usefixtures("ray_here")
def test_no_space_at_a_worker_is_not_the_clips_fault(cheap, tmp_path):
    config = load_config(cheap(["fine", "full"]))
    summary = ClusterRunner(config, workers=1, output=tmp_path / "out").run()
    (failed,) = summary.failed
    assert failed.item.prompt == "full" and failed.cause == "no space" and "quota was reached" in (failed.error or "")
    assert not list((tmp_path / "out").rglob("*.part"))
    again = ClusterRunner(config, workers=1, output=tmp_path / "out", resume=True).run()
    tried = json.loads((tmp_path / "out" / "001-full" / FILE).read_text("utf-8"))
    assert len(again.failed) == 1 and len(tried["base"]["tries"]) == 1


@pytest.mark.usefixtures("ray_here")
def test_stop_after_and_a_single_file(cheap, tmp_path):
    config = load_config(cheap(["one"]))
    summary = ClusterRunner(config, workers=1, output=tmp_path / "part", stop_after="base").run()
    assert summary.stopped_after == "base" and not list((tmp_path / "part").rglob("final.mp4"))
    ClusterRunner(config, workers=1, output=tmp_path / "one.mp4").run()
    assert (tmp_path / "one.mp4").is_file()
