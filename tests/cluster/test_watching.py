"""What a person and a machine see of a run; what stands in the repository for clusters can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nc_refiner.cascade.cluster.attempts import FILE, LOST_PER_TRY, Attempts
from nc_refiner.cascade.cluster.destination import at
from nc_refiner.cascade.cluster.results import PARTS, TABLE, Results, read_results
from nc_refiner.cascade.cluster.state import State
from nc_refiner.cascade.cluster.summary import causes
from nc_refiner.cascade.config import ConfigError
from nc_refiner.cascade.outcome import ItemOutcome
from nc_refiner.cascade.prompts import Item
from nc_refiner.cli.cascade_cluster import Board

ROOT = Path(__file__).resolve().parents[2]


def stage(name: str, state: str = "done") -> dict[str, Any]:
    return {"event": "stage", "stage": name, "name": "x", "state": state, "cause": None, "seconds": 1.0, "time": 9.0}


def test_a_line_for_each_stage(capsys):
    clock = [0.0]
    board = Board(every=10, now=lambda: clock[0])
    pools = [{"stages": ["base", "refiner"], "actors": 2}]
    board({"event": "start", "clips": 10, "stages": ["base", "refiner"], "pools": pools})
    clock[0] = 5.0
    for _ in range(3):
        board(stage("base"))
    board(stage("base", "failed"))
    board({"event": "clip", "status": "failed"})
    assert capsys.readouterr().err == "nc-refiner: 10 clips; workers: 2 × base+refiner\n"
    clock[0] = 60.0
    board(stage("refiner", "skipped"))
    assert capsys.readouterr().err.splitlines() == [
        "nc-refiner: base: 3 of 10 done, 1 failed, 4.0 a minute, about 90 s left",
        "nc-refiner: refiner: 1 of 10 done, 0 failed, 0.0 a minute",
    ]


def test_metrics_and_spans():
    prometheus = pytest.importorskip("prometheus_client", reason="the extra observability is not installed")
    pytest.importorskip("opentelemetry.sdk", reason="the extra observability is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from nc_refiner.cascade.cluster.telemetry import BatchTelemetry

    registry, kept, provider = prometheus.CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    take = BatchTelemetry(registry, provider)
    take({"event": "start", "clips": 3})
    take({"event": "begin", "stage": "base"})
    take(stage("base"))
    take({"event": "begin", "stage": "base"})
    take(stage("base", "skipped"))
    take({"event": "clip", "status": "failed", "cause": "timeout"})
    value = registry.get_sample_value
    assert value("nc_refiner_batch_stages_total", {"stage": "base", "state": "done"}) == 1
    assert value("nc_refiner_batch_stages_running", {"stage": "base"}) == 0
    assert value("nc_refiner_batch_clips_total", {"status": "failed", "cause": "timeout"}) == 1
    assert value("nc_refiner_batch_clips_planned") == 3
    (span,) = kept.get_finished_spans()
    assert span.name == "nc_refiner.batch.base" and span.end_time - span.start_time == 10**9


def test_failures_are_grouped_by_cause():
    outcomes = []
    for index in range(25):
        item = Item(f"{index:03d}-clip", None, index)
        outcome = ItemOutcome(item, item.name)
        if index < 20:
            outcome.error, outcome.cause = f"base: frame {index} of {item.name} is broken", "failed"
        elif index < 23:
            outcome.error, outcome.cause = "refiner: ran longer than 5 s (2 times)", "timeout"
        outcomes.append(outcome)
    first, second = causes(outcomes)
    assert (first["clips"], len(first["names"]), first["cause"]) == (20, 10, "failed")
    assert (second["clips"], second["cause"]) == (3, "timeout")


def attempts(folder: Path, run: str, **more: Any) -> Attempts:
    return Attempts(folder, "base", more.pop("fingerprint", "f"), run, **more)


def test_whose_fault_a_death_is(tmp_path):
    for _ in range(2):
        one = attempts(tmp_path, "a")
        assert one.verdict() is None
        one.begin("host:1")
        one.end("killed", "its process was killed (SIGKILL)")
    found = attempts(tmp_path, "a").verdict()
    assert found is not None and found.cause == "killed" and found.error.endswith("(2 times)")
    # Another run leaves it at that, one that is asked to does not, and another fingerprint is another clip.
    assert attempts(tmp_path, "b").verdict() is not None
    assert attempts(tmp_path, "b", again=True).verdict() is None
    assert attempts(tmp_path, "b", fingerprint="g").verdict() is None


def test_a_worker_that_is_lost_is_not_the_clips_fault_unless_it_loses_many(tmp_path):
    for _ in range(2 * LOST_PER_TRY):
        one = attempts(tmp_path, "a")
        assert one.verdict() is None
        one.begin("host:1")
    found = attempts(tmp_path, "a").verdict()
    assert found is not None and found.cause == "lost"
    # What an earlier run left open, it took along when it was killed.
    assert attempts(tmp_path, "b").verdict() is None


@pytest.mark.parametrize("how", ["no space", "load"])
def test_what_is_not_the_clips_fault_is_tried_again_by_the_next_run(tmp_path, how):
    one = attempts(tmp_path, "a")
    one.begin("host:1")
    one.end(how, "no")
    assert attempts(tmp_path, "a").verdict() is not None
    assert attempts(tmp_path, "b").verdict() is None
    (tmp_path / FILE).write_text("{", encoding="utf-8")
    assert attempts(tmp_path, "b").verdict() is None


def test_one_row_a_clip_whatever_happens(tmp_path):
    place = at(str(tmp_path))
    items = [Item(f"clip{index}", "p", index, extra={"film": "x" if index else None}) for index in range(3)]
    table = Results(place, items, ["base"], "r1")
    for item in items:
        table.add(item, State(stages={"base": "done"}, error="no" if item.seed == 2 else None, cause=None), "f")
    table.flush()
    assert read_results(str(tmp_path)).num_rows == 3 and not (tmp_path / TABLE).exists()
    # A run that was killed between the new table and the removal of its parts.
    parts = {path: path.read_bytes() for path in (tmp_path / PARTS).iterdir()}
    table.compact()
    assert not list((tmp_path / PARTS).iterdir())
    for path, content in parts.items():
        path.write_bytes(content)
    assert read_results(str(tmp_path)).num_rows == 3
    again = Results(place, items, ["base"], "r2")
    for item in items:
        again.add(item, State(stages={"base": "skipped" if item.seed < 2 else "done"}), "f")
    again.flush()
    assert len(list((tmp_path / PARTS).iterdir())) == 1
    again.compact()
    found = {row["name"]: row for row in read_results(str(tmp_path)).to_pylist()}
    assert {name: (row["status"], row["base_state"], row["film"]) for name, row in found.items()} == {
        "clip0": ("done", "done", None),
        "clip1": ("done", "done", "x"),
        "clip2": ("done", "done", "x"),
    }


def test_columns_that_cannot_be(tmp_path):
    place = at(str(tmp_path))
    with pytest.raises(ConfigError, match="'status' has the name of a column of the results"):
        Results(place, [Item("a", "p", 1, extra={"status": 1})], ["base"], "r")
    with pytest.raises(ConfigError, match="mixes kinds"):
        mixed = [Item("a", "p", 1, extra={"x": 1}), Item("b", "p", 1, extra={"x": "one"})]
        Results(place, mixed, ["base"], "r")
    (tmp_path / TABLE).write_bytes(b"no table")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_results(str(tmp_path))
    with pytest.raises(ConfigError, match="holds no table"):
        read_results(str(tmp_path / "empty"))


def test_the_files_for_clusters_are_yaml():
    up = yaml.safe_load((ROOT / "configs" / "cluster" / "ray_up.yaml").read_text("utf-8"))
    assert up["provider"]["type"] == "local" and len(up["provider"]["worker_ips"]) == up["max_workers"]
    job = yaml.safe_load((ROOT / "configs" / "cluster" / "kuberay.yaml").read_text("utf-8"))
    assert job["kind"] == "RayJob" and "nc-refiner cascade" in job["spec"]["entrypoint"]
    groups = job["spec"]["rayClusterSpec"]
    for template in (groups["headGroupSpec"]["template"], groups["workerGroupSpecs"][0]["template"]):
        (container,) = template["spec"]["containers"]
        assert container["name"] == "ray" and container["resources"]["limits"]
    assert json.dumps(job)
