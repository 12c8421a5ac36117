"""What a router tells monitoring: nothing by default, OpenTelemetry spans and Prometheus metrics with the extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from ..store.events import Assignment

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ["NoTelemetry", "Observability", "Telemetry"]

INSTALL = "{what} is not installed; pip install 'nc_refiner[observability]'"
SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640)


class Telemetry(Protocol):
    """Where a router reports to. Whatever it raises is logged, and the request goes on."""

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Any]:
        """A span around a call of an arm; what it yields has `set_attribute`, or is None."""

    def request(self, experiment: str, given: Assignment, served: str | None, seconds: float) -> None:
        """One request is answered (`served`: by which arm) or has failed (None)."""

    def failure(self, experiment: str, arm: str, kind: str) -> None:
        """An arm failed."""

    def shadow(self, experiment: str, arm: str, accepted: bool) -> None:
        """A shadow run was queued, or dropped since the queue was full."""

    def evaluation(self, experiment: str, arm: str, accepted: bool) -> None:
        """An evaluation was queued, or dropped since the queue was full."""

    def switch(self, experiment: str, arm: str, on: bool) -> None:
        """An arm (empty: the experiment) was switched."""

    def recorder(self, experiment: str, recorder: Any) -> None:
        """The recorder whose queue and database are to be watched."""


class NoTelemetry:
    """Reports nothing."""

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Any]:
        """Nothing."""
        return nullcontext()

    def request(self, experiment: str, given: Assignment, served: str | None, seconds: float) -> None:
        """Nothing."""

    def failure(self, experiment: str, arm: str, kind: str) -> None:
        """Nothing."""

    def shadow(self, experiment: str, arm: str, accepted: bool) -> None:
        """Nothing."""

    def evaluation(self, experiment: str, arm: str, accepted: bool) -> None:
        """Nothing."""

    def switch(self, experiment: str, arm: str, on: bool) -> None:
        """Nothing."""

    def recorder(self, experiment: str, recorder: Any) -> None:
        """Nothing."""


class Observability:
    """Prometheus metrics `nc_refiner_ab_*` and OpenTelemetry spans `nc_refiner.ab.*`.

    Make one per process and share it among routers: a registry takes every metric's name once.

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
        to = REGISTRY if registry is None else registry
        prefix = "nc_refiner_ab"
        self._tracer = trace.get_tracer("nc_refiner.experiment", tracer_provider=tracer_provider)
        self._requests = Counter(
            f"{prefix}_requests", "Requests.", ["experiment", "assigned", "served", "reason"], registry=to
        )
        self._seconds = Histogram(
            f"{prefix}_request_seconds", "Seconds.", ["experiment", "assigned"], buckets=SECONDS, registry=to
        )
        self._failures = Counter(f"{prefix}_arm_failures", "Failures.", ["experiment", "arm", "kind"], registry=to)
        self._shadows = Counter(
            f"{prefix}_shadow_runs", "Shadow runs queued or dropped.", ["experiment", "arm", "state"], registry=to
        )
        self._evaluations = Counter(
            f"{prefix}_evaluations", "Evaluations queued or dropped.", ["experiment", "arm", "state"], registry=to
        )
        self._on = Gauge(f"{prefix}_arm_on", "1: on. 0: off. Arm empty: all.", ["experiment", "arm"], registry=to)
        self._waiting = Gauge(
            f"{prefix}_records_waiting", "Records not in the database yet.", ["experiment"], registry=to
        )
        self._waiting_bytes = Gauge(f"{prefix}_journal_bytes", "Bytes waiting on disk.", ["experiment"], registry=to)
        self._dropped = Gauge(
            f"{prefix}_records_dropped", "Records not taken for want of room.", ["experiment"], registry=to
        )
        self._refused = Gauge(f"{prefix}_records_refused", "Dead letters so far.", ["experiment"], registry=to)
        self._up = Gauge(f"{prefix}_database_up", "1: takes records.", ["experiment"], registry=to)

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Any]:
        """An OpenTelemetry span `nc_refiner.ab.NAME`, the current one inside the block."""
        attributes = {f"nc_refiner.ab.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(f"nc_refiner.ab.{name}", attributes=attributes) as span:
            yield span

    def request(self, experiment: str, given: Assignment, served: str | None, seconds: float) -> None:
        """Count a request and its seconds; `served` is `none` for one that failed."""
        self._requests.labels(experiment, given.arm, served or "none", given.reason).inc()
        self._seconds.labels(experiment, given.arm).observe(seconds)

    def failure(self, experiment: str, arm: str, kind: str) -> None:
        """Count a failure."""
        self._failures.labels(experiment, arm, kind).inc()

    def shadow(self, experiment: str, arm: str, accepted: bool) -> None:
        """Count a shadow run."""
        self._shadows.labels(experiment, arm, "queued" if accepted else "dropped").inc()

    def evaluation(self, experiment: str, arm: str, accepted: bool) -> None:
        """Count an evaluation."""
        self._evaluations.labels(experiment, arm, "queued" if accepted else "dropped").inc()

    def switch(self, experiment: str, arm: str, on: bool) -> None:
        """Show an arm's state."""
        self._on.labels(experiment, arm).set(int(on))

    def recorder(self, experiment: str, recorder: Any) -> None:
        """Show queue and database whenever they are scraped."""
        self._waiting.labels(experiment).set_function(lambda: recorder.waiting)
        self._waiting_bytes.labels(experiment).set_function(lambda: recorder.waiting_bytes)
        self._dropped.labels(experiment).set_function(lambda: recorder.dropped)
        self._refused.labels(experiment).set_function(lambda: recorder.counts().refused)
        self._up.labels(experiment).set_function(lambda: int(recorder.database_up))
