"""Ray on this machine, or a cluster that runs already: started or joined, checked, and left as it was found."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..._version import __version__
from ...config.document import ConfigError
from ...naming import one_line
from ...ray_address import joined_another
from ..fingerprint import code_version

__all__ = ["INSTALL", "Capacity", "require_ray", "session"]

INSTALL = "Ray is not installed; pip install 'nc_refiner[ray]'"
STARTS = 3
REACH = 5.0
PROBE = 60.0
"""How often a start here is tried; seconds in which an address must answer, and in which a cluster must be joined."""


@dataclass(frozen=True)
class Capacity:
    """What a session has: processors, GPUs, machines."""

    cpus: float
    gpus: float
    nodes: int


def require_ray() -> None:
    """Raises ImportError with the install command where Ray is missing."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{INSTALL} ({error})") from None


@contextmanager
def session(address: str | None, cpus: int | None = None, packed: bytes | None = None) -> Iterator[Capacity]:
    """A connection to Ray for the block.

    Args:
        address: `host:port` or `auto` of a cluster that runs; None starts Ray here and ends it afterwards.
        cpus: processors that a Ray started here has to give away, at least; what it counts is not what there is.
        packed: the job, which every machine must be able to read.

    Raises:
        ImportError: Ray is missing.
        ConfigError: no Ray there, another than the one this program has joined, or another version of Ray, Python or
            this package.
    """
    require_ray()
    import ray

    if ray.is_initialized():
        # A program that uses Ray itself: its connection is used and left open.
        if (obstacle := joined_another(address, "the run")) is not None:
            raise ConfigError(obstacle)
        _check_machines(packed)
        yield _capacity()
        return
    _hush()
    if address is None:
        _start(max(os.cpu_count() or 1, cpus or 1))
    else:
        _join(address)
    try:
        if address is not None:
            _check_machines(packed)
        yield _capacity()
    finally:
        ray.shutdown()


def _start(cpus: int) -> None:
    """Start Ray here. It gives itself half a minute, which a busy machine may need more than once."""
    import ray

    for tries_left in reversed(range(STARTS)):
        try:
            with _as_it_was():
                ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray has an error of every kind for this
            ray.shutdown()
            if not tries_left:
                raise RuntimeError(f"Ray did not start on this machine, {STARTS} times: {one_line(error)}") from None


def _join(address: str) -> None:
    import ray

    if "://" in address:
        raise ConfigError(
            f"--ray is {address!r}; give host:port or auto. From outside a cluster, send the command to it: "
            "ray job submit -- nc-refiner cascade …"
        )
    if address != "auto":
        _knock(address)
        _probe(address)
    try:
        with _as_it_was():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has an error of every kind for this
        text = " ".join(str(error).split())
        if "ersion mismatch" in text:
            raise ConfigError(f"the cluster at {address} runs other versions: {text}") from None
        raise ConfigError(f"there is no Ray to join at {address}: {text[:300]}") from None


def _knock(address: str) -> None:
    """Ask whether anyone listens, since Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--ray is {address!r}; write host:port, such as 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"there is no Ray at {address} ({why}); start it with: ray start --head") from None


def _probe(address: str) -> None:
    """Join once in a process of its own: where something else than Ray answers, Ray ends the process that asked."""
    code = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('joined')"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"there is no Ray to join at {address}: it did not answer within {PROBE:.0f} s") from None
    if "joined" in done.stdout:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("ersion mismatch" in line for line in lines):
        return  # The same again in this process, where it has words of its own.
    if any("Unauthenticated" in line or "authentication token" in line.lower() for line in lines):
        raise ConfigError(
            f"the cluster at {address} wants its token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH or "
            "RAY_AUTH_TOKEN as it has them"
        )
    raise ConfigError(f"there is no Ray to join at {address}: {(lines or ['it ended the connection'])[-1][:300]}")


def _check_machines(packed: bytes | None) -> None:
    """Every machine must run this very package, or clips would come from other code than is recorded, and have the
    stages and the folder of the job."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ours = code_version()
    asked = {}
    ask: Any = ray.remote(num_cpus=0, max_retries=2)(_machine_here)
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeManagerHostname"]] = ask.options(scheduling_strategy=strategy).remote(packed)
    for host, answer in asked.items():
        try:
            version, code, missing = ray.get(answer, timeout=120)
        except Exception as error:  # a worker that cannot import the package, first of all
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ConfigError(f"nc_refiner cannot be used on {host}: {lines[-1].strip()}") from None
        if code != ours:
            raise ConfigError(
                f"{host} runs nc_refiner {version} with other code or another torch than here ({__version__}); "
                "install the same on every machine"
            )
        if missing is not None:
            raise ConfigError(f"{host} cannot run this cascade: {missing}")


def _machine_here(packed: bytes | None) -> tuple[str, str, str | None]:
    """Version and code of the package on this machine, and why the job cannot be read here."""
    from nc_refiner._version import __version__ as version
    from nc_refiner.cascade.cluster.job import Job
    from nc_refiner.cascade.fingerprint import code_version as code

    try:
        if packed is not None:
            Job.unpacked(packed)
    except Exception as error:  # a stage that is not installed, above all
        return version, code(), " ".join(str(error).split()) or type(error).__name__
    return version, code(), None


def _capacity() -> Capacity:
    import ray

    found = ray.cluster_resources()
    return Capacity(found.get("CPU", 0.0), found.get("GPU", 0.0), sum(node["Alive"] for node in ray.nodes()))


def _hush() -> None:
    """Ray's notes are for its own logs; a person gets one line for each thing that matters."""
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


@contextmanager
def _as_it_was() -> Iterator[None]:
    """What Ctrl-C and SIGTERM do is the caller's to say, and so is what stands on its terminal: Ray sets handlers of
    its own, and its libraries greet on standard error, past Python. What goes wrong is raised."""
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.getsignal(number) for number in numbers}
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
