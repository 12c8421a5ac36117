"""A server from its file: cluster, desk, HTTP, and its end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.extras import load
from ..experiment.study.listening import listening
from ..experiment.study.patience import impatient
from ..files import FileError, exclusive
from .arms import Cluster
from .config import ServingConfig
from .desk import Desk
from .jobs import JobFolder
from .metrics import Metrics
from .service import Service
from .tokens import host_names, token_of

__all__ = ["Serving", "serve"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
IDLE_SECONDS = 30.0
"""A connection on which nobody asks for anything is closed after so long."""


@dataclass(frozen=True)
class Serving:
    """What is being served: where, how many replicas of each arm, where jobs are kept, whether a token is asked for."""

    url: str
    replicas: dict[str, int]
    folder: Path
    token: bool


def serve(
    config: ServingConfig,
    base: Path,
    address: str | None = None,
    ready: Callable[[Serving], None] | None = None,
    ending: Callable[[], None] | None = None,
) -> bool:
    """Serve until SIGTERM or Ctrl-C, then finish the jobs that are there; a second signal ends it at once.

    Args:
        config: the checked file. base: the folder that its paths are relative to.
        address: of a running Ray cluster; None starts Ray on this machine.
        ready: called once requests are taken. ending: called when the end has begun.

    Returns:
        Whether every job was finished; those that were not are done by the next server on the same folder.

    Raises:
        ImportError: a package of the `serve` extra is missing.
        ValueError: no token where one is needed, an address that cannot be listened on, no cluster, a refiner that
            cannot be built, a folder that another server uses.
    """
    server = config.serve
    token = token_of(server)
    for package in ("ray", "fastapi", "python_multipart", "sqlalchemy"):
        load(package, "serve")
    uvicorn = load("uvicorn", "serve")
    root = base / server.folder
    try:
        folder = JobFolder(root)
    except OSError as error:
        raise FileError(f"{root}: the folder for jobs cannot be made ({error.strerror})") from None
    with (
        exclusive(root, f"{root}: another server is using this folder; give each its own serve.folder"),
        listening(server.host, server.port, "choose another serve.port") as listener,
    ):
        places = {name: server.place(name) for name in config.specs()}
        cluster = Cluster(address, places)
        try:
            metrics = Metrics()
            arms = cluster.deploy(
                f"nc_refiner-{config.experiment.experiment if config.experiment else 'serve'}",
                config.specs(),
                server.attempts,
                server.seconds,
            )
            service = Service(config, base, arms, folder, metrics.experiment)
            workers = {name: place.max_replicas or 1 for name, place in places.items()}
            desk = Desk(
                folder, workers, service.answer, server.queue, server.attempts, server.keep_hours * 3600, metrics
            )
            from .front import create_app

            seen = _Seen(cluster, {name: place.replicas or 1 for name, place in places.items()})
            app = create_app(
                server, folder, desk, service.arm, seen.replicas, metrics, token, host_names(server, token)
            )
            runner = _Runner(uvicorn, app, desk, server.drain_seconds, ending)
            if ready is not None:
                shown = f"[{server.host}]" if ":" in server.host else server.host
                url = f"http://{shown}:{listener.getsockname()[1]}"
                ready(Serving(url, seen.replicas(), root, token is not None))
            runner.run(listener)
            seen.close()
            service.close(server.drain_seconds)
            return runner.drained
        finally:
            cluster.close()


class _Seen:
    """How many replicas run, asked for now and then: a readiness probe must not wait for the cluster."""

    def __init__(self, cluster: Cluster, replicas: dict[str, int]):
        self._cluster, self._replicas = cluster, replicas
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="nc-refiner-replicas", daemon=True)
        self._thread.start()

    def replicas(self) -> dict[str, int]:
        return dict(self._replicas)

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                found = self._cluster.ready()
                self._replicas = {name: found.get(name, 0) for name in self._replicas}
            except Exception as error:  # the cluster may be away for a while; jobs tell of it themselves
                log.warning("the cluster does not say which replicas run: %s", error)
                self._replicas = dict.fromkeys(self._replicas, 0)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(LOOK_SECONDS)


class _Runner:
    """Uvicorn with an end of its own: results are served while jobs are being finished."""

    def __init__(self, uvicorn: Any, app: Any, desk: Desk, drain_seconds: float, ending: Callable[[], None] | None):
        self._desk, self._seconds, self._ending = desk, drain_seconds, ending or (lambda: None)
        self.drained = False
        self._begun = False
        runner = self

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: Any) -> None:
                runner._signalled()

        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
            http=impatient(IDLE_SECONDS),
            limit_concurrency=1024,
        )
        self._server = Server(config)

    def _signalled(self) -> None:
        if self._begun:
            self._server.should_exit = True
            return
        self._begun = True
        self._desk.close()
        threading.Thread(target=self._drain, name="nc-refiner-drain", daemon=True).start()

    def _drain(self) -> None:
        self._ending()
        self.drained = self._desk.drain(self._seconds)
        self._server.should_exit = True

    def run(self, listener: socket.socket) -> None:
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None:
            signal.signal(hangup, lambda *_: self._signalled())
        self._server.run(sockets=[listener])
