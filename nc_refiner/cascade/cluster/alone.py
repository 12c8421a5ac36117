"""One run at a time in one place. A folder is locked; at a URL, which knows no locks, a run leaves a sign of life."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...config.document import ConfigError
from ...naming import one_line
from ..runner import alone_in
from .destination import Destination

__all__ = ["SIGN", "alone"]

SIGN = "run.json"
BEAT, DEAD = 15.0, 60.0
"""Seconds between two signs of life, and after which a run counts as dead."""


@contextmanager
def alone(place: Destination, run: str) -> Iterator[None]:
    """The place is this run's alone within the block.

    Raises:
        ConfigError: another run is at work in it.
    """
    if place.url is None:
        with alone_in(place.root):
            yield
        return
    _refuse_another(place)
    here = {"run": run, "host": os.uname().nodename, "pid": os.getpid()}
    try:
        _sign(place, here)
    except Exception as error:  # every file system has errors of its own
        raise ConfigError(f"output: {place.url} cannot be written ({one_line(error)})") from None
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            # A beat that is missed is no reason to stop a run.
            with contextlib.suppress(Exception):
                _sign(place, here)

    thread = threading.Thread(target=beat, name="nc_refiner-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(Exception):
            place.remove(SIGN)


def _sign(place: Destination, here: dict[str, Any]) -> None:
    place.write(SIGN, json.dumps({**here, "time": time.time()}).encode())


def _refuse_another(place: Destination) -> None:
    content = place.read(SIGN)
    try:
        other = json.loads(content) if content is not None else None
        seen, host, pid = (other["time"], other["host"], int(other["pid"])) if other else (0.0, "", 0)
    except (ValueError, KeyError, TypeError):
        return
    if time.time() - seen > DEAD or (host == os.uname().nodename and not _lives(pid)):
        return
    raise ConfigError(
        f"another run is at work in {place.url} (on {host}, process {pid}); wait for it, or {DEAD:.0f} s if it was "
        "killed, or choose another --output"
    )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
