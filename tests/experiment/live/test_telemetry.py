"""Metrics and spans as a scraper and an exporter see them; a broken monitor harms no request."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from nc_refiner.experiment import ABRefiner, Guardrails, Observability
from nc_refiner.experiment.store import open_store

from ..conftest import Cheap

ALL_NC = {"control": 1e-9, "nc": 1.0}


def test_metrics_and_spans(clip, tmp_path):
    registry, exporter, provider = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observability = Observability(registry, provider)
    rails = Guardrails(min_calls=2, window=2, max_failure_rate=0.0)
    nc = Cheap(0.2, fails=lambda call: call > 1)
    with ABRefiner(
        {"control": Cheap(), "nc": nc}, "e", ALL_NC, tmp_path / "ab.db", telemetry=observability, guardrails=rails
    ) as ab:
        for _ in range(3):
            ab(clip)
        assert ab.wait()
        text = generate_latest(registry).decode()
    for line in (
        'nc_refiner_ab_requests_total{assigned="nc",experiment="e",reason="split",served="nc"} 1.0',
        'nc_refiner_ab_requests_total{assigned="nc",experiment="e",reason="split",served="control"} 2.0',
        'nc_refiner_ab_arm_failures_total{arm="nc",experiment="e",kind="raised"} 1.0',
        'nc_refiner_ab_request_seconds_count{assigned="nc",experiment="e"} 3.0',
        'nc_refiner_ab_arm_on{arm="nc",experiment="e"} 0.0',
        'nc_refiner_ab_arm_on{arm="control",experiment="e"} 1.0',
        'nc_refiner_ab_database_up{experiment="e"} 1.0',
        'nc_refiner_ab_records_waiting{experiment="e"} 0.0',
    ):
        assert line in text
    spans = exporter.get_finished_spans()
    asked = [span for span in spans if span.name == "nc_refiner.ab.request"]
    arms = [span for span in spans if span.name == "nc_refiner.ab.arm"]
    assert [span.attributes["nc_refiner.ab.served"] for span in asked] == ["nc", "control", "control"]
    assert [span.parent.span_id for span in arms] == [span.context.span_id for span in asked[:2]]
    assert [span.status.is_ok for span in arms] == [True, False]


@pytest.mark.parametrize("when", ["creating", "entering", "leaving"])
def test_a_broken_monitor_harms_no_request_and_no_record(clip, when, tmp_path):
    class Manager:
        def __enter__(self):
            if when == "entering":
                raise RuntimeError("enter")

        def __exit__(self, *_):
            raise RuntimeError("exit")

    class Broken:
        def span(self, name, **attributes):
            if when == "creating":
                raise RuntimeError("span")
            return Manager()

        def __getattr__(self, name):
            def fail(*_):
                raise RuntimeError(name)

            return fail

    broken_arm = Cheap(fails=lambda call: True)
    with ABRefiner({"control": Cheap(), "nc": broken_arm}, "e", ALL_NC, tmp_path / "ab.db", telemetry=Broken()) as ab:
        assert ab(clip).receipt["loss"] == 0.5
    assert {"error", "seconds"} <= {found.metric for found in open_store(tmp_path / "ab.db").observations("e")}

    with pytest.raises(RuntimeError, match="out of luck"):
        ABRefiner({"control": broken_arm, "nc": broken_arm.__call__}, "e", ALL_NC, telemetry=Broken())(clip)
