"""A run on Ray, told to monitoring: Prometheus metrics and OpenTelemetry spans, with the extra `observability`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...experiment.live.telemetry import INSTALL, SECONDS

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ["BatchTelemetry"]


class BatchTelemetry:
    """Takes the events of `ClusterRunner`: metrics `nc_refiner_batch_*`, spans `nc_refiner.batch.STAGE` one a clip.

    Args:
        registry: default: prometheus_client's own.
        tracer_provider: default: the global one, which records nothing until an SDK is configured.

    Raises:
        ImportError: prometheus_client or opentelemetry is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None, tracer_provider: TracerProvider | None = None):
        try:
            from opentelemetry import trace
            from prometheus_client import REGISTRY, Counter, Gauge, Histogram
        except ImportError as error:
            raise ImportError(INSTALL.format(what=error.name)) from error
        to, prefix = REGISTRY if registry is None else registry, "nc_refiner_batch"
        self._tracer = trace.get_tracer("nc_refiner.cascade.cluster", tracer_provider=tracer_provider)
        self._total = Gauge(f"{prefix}_clips_planned", "Clips of the run.", registry=to)
        self._stages = Counter(f"{prefix}_stages", "Stages of clips that ended.", ["stage", "state"], registry=to)
        self._seconds = Histogram(f"{prefix}_stage_seconds", "Seconds.", ["stage"], buckets=SECONDS, registry=to)
        self._running = Gauge(f"{prefix}_stages_running", "Stages of clips that run.", ["stage"], registry=to)
        self._clips = Counter(f"{prefix}_clips", "Clips that are through.", ["status", "cause"], registry=to)

    def __call__(self, event: dict[str, Any]) -> None:
        """Count an event."""
        kind = event["event"]
        if kind == "start":
            self._total.set(event["clips"])
        elif kind == "begin":
            self._running.labels(event["stage"]).inc()
        elif kind == "stage":
            self._running.labels(event["stage"]).dec()
            self._stages.labels(event["stage"], event["state"]).inc()
            if event["state"] != "skipped":
                self._seconds.labels(event["stage"]).observe(event["seconds"])
                self._span(event)
        elif kind == "clip":
            self._clips.labels(event["status"], event["cause"] or "").inc()

    def _span(self, event: dict[str, Any]) -> None:
        ended = int(event["time"] * 1e9)
        known = {key: event[key] for key in ("name", "state", "cause") if event[key] is not None}
        span = self._tracer.start_span(
            f"nc_refiner.batch.{event['stage']}",
            start_time=ended - int(event["seconds"] * 1e9),
            attributes={f"nc_refiner.batch.{key}": value for key, value in known.items()},
        )
        span.end(end_time=ended)
