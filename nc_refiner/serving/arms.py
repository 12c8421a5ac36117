"""Every refiner a Ray Serve deployment of its own, and callables in this process that reach them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from ..evaluation.extras import load
from ..naming import one_line
from .config import Place
from .worker import ArmSpec, Done, Work, Worker

__all__ = ["Cluster", "RemoteArm", "Stopped", "TooSlow", "WorkFailed", "WorkerLost"]

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
START_ATTEMPTS = 3
HUNG_SECONDS = 60.0
"""A call that was told to stop and has not after so long: its replica is replaced."""


class WorkFailed(RuntimeError):
    """A refiner raised; the message is its own, with the type's name in front where it is no plain mistake."""


class WorkerLost(RuntimeError):
    """Every replica that tried a clip was lost over it."""


class TooSlow(RuntimeError):
    """A clip took longer than it may."""


class Stopped(Exception):
    """Inside a replica: nobody waits for this call any more."""


class Replica:
    """One copy of a refiner, as Ray Serve runs it: one clip at a time."""

    def __init__(self, spec: ArmSpec):
        self._worker = Worker(spec)
        # One thread: a call that was given up may still be on its way to its next step.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="nc-refiner")
        self._told: float | None = None

    async def refine(self, work: Work) -> AsyncIterator[tuple[Any, ...]]:
        """What happens to a clip: `("start", steps)`, `("step", stage)` after each, then `("done", Done)` or
        `("failed", kind, message)`; kind is `memory`, `input` or `raised`."""
        loop = asyncio.get_running_loop()
        said: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
        stop = threading.Event()

        def say(*what: Any) -> None:
            if stop.is_set():
                raise Stopped
            loop.call_soon_threadsafe(said.put_nowait, what)

        def run() -> tuple[Any, ...]:
            try:
                return "done", self._worker.refine(work, lambda total: say("start", total), lambda s: say("step", s))
            except Stopped:
                return ("stopped",)
            except (MemoryError, torch.OutOfMemoryError) as error:
                return "failed", "memory", f"out of memory ({type(error).__name__})"
            except (ValueError, NotImplementedError) as error:
                return "failed", "input", str(error) or type(error).__name__
            except Exception as error:  # the answer to the client is a sentence; the log has the rest
                log.exception("a clip failed")
                return "failed", "raised", f"{type(error).__name__}: {error}"

        future = loop.run_in_executor(self._pool, run)
        future.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (what := await said.get()) is not None:
                yield what
            yield future.result()
        finally:
            if not future.done():
                stop.set()
                self._told = time.monotonic()
                future.add_done_callback(lambda _: setattr(self, "_told", None))

    def check_health(self) -> None:
        """Asked by Ray Serve; raises where a call hangs, so that the replica is replaced."""
        if self._told is not None and time.monotonic() - self._told > HUNG_SECONDS:
            raise RuntimeError("a call that was given up does not end")


class RemoteArm:
    """A deployed refiner, called from this process's threads.

    Args:
        handle: of the deployment.
        attempts: replicas that one clip may cost.
        seconds: for one attempt, waiting for a free replica included.
    """

    def __init__(self, handle: Any, attempts: int, seconds: float):
        self._method = handle.options(stream=True).refine
        self._attempts, self._seconds = attempts, seconds
        self._lost = _lost_errors()

    def __call__(
        self,
        work: Work,
        *,
        on_start: Callable[[int], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> Done:
        """Refine one clip; a replica that is lost over it is replaced by another, `attempts` times in all.

        Args:
            work: the clip and what is asked for.
            on_start: called with the number of steps, at each attempt.
            on_step: called after each step; what it raises ends the run.

        Raises:
            WorkFailed: the refiner raised. ValueError: it did not like the clip or the settings. MemoryError: there
            was too little. TooSlow, WorkerLost: see there. What `on_step` raises.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return self._once(work, on_start, on_step)
            except self._lost as error:
                log.warning("a worker was lost (attempt %d of %d): %s", attempt, self._attempts, one_line(error))
        raise WorkerLost(f"the worker was lost {self._attempts} times over this clip")

    def _once(self, work: Work, on_start: Callable[[int], None] | None, on_step: Callable[[str], None] | None) -> Done:
        stream = self._method.remote(work)
        late = threading.Event()

        def expire() -> None:
            late.set()
            stream.cancel()

        timer = threading.Timer(self._seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            for what in stream:
                kind = what[0]
                if kind == "start" and on_start is not None:
                    on_start(what[1])
                elif kind == "step" and on_step is not None:
                    on_step(what[1])
                elif kind == "done":
                    done: Done = what[1]
                    return done
                elif kind == "failed":
                    raise _failure(what[1], what[2])
            raise WorkFailed("the worker ended without an answer")
        except BaseException:
            stream.cancel()
            if late.is_set():
                raise TooSlow(f"took longer than {self._seconds:g} seconds") from None
            raise
        finally:
            timer.cancel()


def _failure(kind: str, message: str) -> Exception:
    if kind == "memory":
        return MemoryError(message)
    return ValueError(message) if kind == "input" else WorkFailed(message)


def _lost_errors() -> tuple[type[BaseException], ...]:
    from ray import exceptions
    from ray.serve.exceptions import ReplicaUnavailableError

    names = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "RaySystemError")
    return (*(getattr(exceptions, name) for name in names), ReplicaUnavailableError)


class Cluster:
    """Ray with our deployments on it.

    Args:
        address: of a running cluster; None starts one on this machine, which ends with this object.
        places: arm → where and how often; `gpus` None is 1 where the cluster has any.

    Raises:
        ImportError: Ray is not installed. ValueError: no cluster there, another version, or too few GPUs.
    """

    def __init__(self, address: str | None, places: Mapping[str, Place]):
        # Nothing is reported to Ray's makers unless the user has said so.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        load("ray", "serve")
        load("ray.serve", "serve")
        import ray

        self._own, self._apps = address is None, list[str]()
        if address is not None:
            _check_address(address)
        needed = sum((place.max_replicas or 1) * (place.cpus or 0) for place in places.values())
        with _one_line(f"no Ray cluster can be used at {address}" if address else "Ray cannot be started here"):
            if address is None:
                # On one machine the number of CPUs is ours: more workers than cores are slow, not impossible.
                _started(num_cpus=max(os.cpu_count() or 1, int(needed) + 1), include_dashboard=False)
            else:
                _started(address=address)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        have = float(ray.cluster_resources().get("GPU", 0))
        self._gpus = {
            name: (place.gpus if place.gpus is not None else min(1.0, have)) for name, place in places.items()
        }
        wanted = sum((places[name].replicas or 1) * gpus for name, gpus in self._gpus.items())
        if wanted > have:
            self.close()
            raise ValueError(f"the arms need {wanted:g} GPUs, the cluster has {have:g}; lower replicas or gpus")
        self._places = dict(places)

    def deploy(self, prefix: str, specs: Mapping[str, ArmSpec], attempts: int, seconds: float) -> dict[str, RemoteArm]:
        """Start every arm and wait until each has loaded its model.

        Raises:
            ValueError: one cannot be built; the message is what its replica said.
        """
        from ray import serve

        targets, names = [], []
        for name, spec in specs.items():
            place, app = self._places[name], f"{prefix}-{name}"
            replicas, most = place.replicas or 1, place.max_replicas or 1
            scale: dict[str, Any] = {"num_replicas": replicas}
            if most > replicas:
                scale = {
                    "autoscaling_config": {
                        "min_replicas": replicas,
                        "initial_replicas": replicas,
                        "max_replicas": most,
                        "target_ongoing_requests": 1,
                    }
                }
            deployment = serve.deployment(
                Replica,
                name=name,
                max_ongoing_requests=1,
                # What cannot be built now cannot be built in an hour either; the person is at the terminal.
                max_constructor_retry_count=2,
                ray_actor_options={"num_cpus": place.cpus, "num_gpus": self._gpus[name]},
                health_check_period_s=5,
                graceful_shutdown_timeout_s=5,
                **scale,
            )
            targets.append(serve.RunTarget(deployment.bind(spec), name=app, route_prefix=None))
            names.append(app)
        self._apps += names
        serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING", "enable_access_log": False})
        try:
            handles = serve.run_many(targets)
        except Exception as error:
            raise ValueError(self._trouble(names) or f"the refiners could not be started: {one_line(error)}") from None
        return {name: RemoteArm(handle, attempts, seconds) for name, handle in zip(specs, handles, strict=True)}

    @staticmethod
    def _trouble(apps: list[str]) -> str:
        """What the replicas of `apps` said that could not be started."""
        from ray import serve

        for app in apps:
            status = serve.status().applications.get(app)
            for name, deployment in (status.deployments if status is not None else {}).items():
                lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
                if deployment.status.value in ("UNHEALTHY", "DEPLOY_FAILED"):
                    return f"{name} cannot be built: {lines[-1] if lines else 'its log says why'}"
        return ""

    def ready(self) -> dict[str, int]:
        """Arm → replicas that run."""
        from ray import serve

        found = {}
        applications = serve.status().applications
        for app in self._apps:
            for name, deployment in (applications[app].deployments if app in applications else {}).items():
                found[name] = int(deployment.replica_states.get("RUNNING", 0))
        return found

    def close(self) -> None:
        """End our deployments, and the cluster where it is our own."""
        import ray
        from ray import serve

        if not ray.is_initialized():
            return
        # A cluster of our own ends with everything on it.
        for app in [] if self._own else self._apps:
            serve.delete(app, _blocking=False)
        ray.shutdown()


def _started(**options: Any) -> None:
    """Connect to Ray, or start it: a busy machine may need longer for that than Ray itself waits, so once more then."""
    import ray

    for left in reversed(range(START_ATTEMPTS)):
        try:
            ray.init(**{"address": "local", **options}, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            ray.shutdown()
            if not left or "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not start in time; once more")


def _check_address(address: str) -> None:
    """ValueError where nobody answers; Ray itself would wait for minutes."""
    if "://" in address:
        raise ValueError(f"--ray {address}: give the address of the head node, HOST:6379, or auto")
    host, colon, port = address.rpartition(":")
    if not colon:
        return  # `auto`, which Ray answers at once
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"no Ray cluster answers at {address}: {reason}") from None


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {one_line(error)}") from None
