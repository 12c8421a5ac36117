"""Numbers for Prometheus: the jobs of the server beside those of the experiment."""

from __future__ import annotations

from collections.abc import Callable

from ..evaluation.extras import needs
from ..experiment.live.telemetry import Observability
from .desk import Watcher
from .jobs import Job

__all__ = ["Metrics"]

SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)


class Metrics(Watcher):
    """Metrics `nc_refiner_serve_*`, and the experiment's `nc_refiner_ab_*`, in a registry of their own.

    Attributes:
        experiment: what the router reports to.

    Raises:
        ImportError: prometheus_client or opentelemetry is not installed.
    """

    def __init__(self) -> None:
        with needs("prometheus_client", "prometheus_client", "serve"):
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        self._registry = to = CollectorRegistry()
        self.experiment = Observability(registry=to)
        prefix = "nc_refiner_serve"
        self._jobs = Counter(f"{prefix}_jobs", "Jobs that are over.", ["state"], registry=to)
        self._refused = Counter(f"{prefix}_refused", "Requests for a job that were refused.", ["status"], registry=to)
        self._waiting = Gauge(f"{prefix}_jobs_waiting", "Jobs and uploads that wait.", registry=to)
        self._running = Gauge(f"{prefix}_jobs_running", "Jobs that run.", registry=to)
        self._queued = Histogram(f"{prefix}_wait_seconds", "From request to start.", buckets=SECONDS, registry=to)
        self._took = Histogram(f"{prefix}_job_seconds", "From start to end.", buckets=SECONDS, registry=to)

    def counts(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Show both whenever they are scraped."""
        self._waiting.set_function(waiting)
        self._running.set_function(running)

    def finished(self, job: Job) -> None:
        """Count a job."""
        self._jobs.labels(job.state).inc()
        if job.started is not None and job.finished is not None:
            self._queued.observe(max(0.0, job.started - job.created))
            self._took.observe(max(0.0, job.finished - job.started))

    def refused(self, status: int) -> None:
        """Count a refusal."""
        self._refused.labels(str(status)).inc()

    def text(self) -> bytes:
        """What is scraped."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
