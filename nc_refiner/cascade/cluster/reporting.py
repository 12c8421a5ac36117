"""Counting while it happens: workers tell a named actor, the driver asks it now and then.

What is lost on the way is only a number on a screen: the table is written from what the workers return.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

__all__ = ["Counter", "Reporting"]


class Counter:
    """The named actor: keeps what it is told until it is asked."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []

    def tell(self, event: dict[str, Any]) -> None:
        """Keep an event."""
        self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """Every event since the last call."""
        found, self._events = self._events, []
        return found


class Reporting:
    """A worker's side: tells the actor called `name`, if there is one, and never waits for it."""

    def __init__(self, name: str | None):
        self._name = name
        self._actor: Any = None

    def begins(self, stage: str, item: str) -> None:
        """A stage of an item begins."""
        self._tell({"event": "begin", "stage": stage, "name": item, "time": time.time()})

    def ends(self, stage: str, item: str, state: str, cause: str | None, began: float) -> None:
        """A stage of an item has ended as `state`."""
        now = time.time()
        event = {"event": "stage", "stage": stage, "name": item, "state": state, "cause": cause}
        self._tell({**event, "time": now, "seconds": round(now - began, 4)})

    def _tell(self, event: dict[str, Any]) -> None:
        if self._name is None:
            return
        import ray

        with contextlib.suppress(Exception):
            if self._actor is None:
                self._actor = ray.get_actor(self._name)
            self._actor.tell.remote(event)
            return
        # The actor was started anew; the next event looks for it.
        self._actor = None
