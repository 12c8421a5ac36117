"""A thread that is started again, loudly, whatever its work raises."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["Supervised"]

log = logging.getLogger(__name__)
LONGEST_WAIT = 5.0


class Supervised:
    """Runs `work` in a daemon thread until it returns; where it raises instead, says so and runs it again.

    Args:
        name: of the thread.
        work: returns when there is no more to do.

    Attributes:
        restarts: how often it was run again.
    """

    def __init__(self, name: str, work: Callable[[], None]):
        self.name, self._work, self.restarts = name, work, 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                return self._work()
            except BaseException:  # an end that nobody asked for, SystemExit too
                self.restarts += 1
                log.exception("%s stopped unexpectedly and is started again", self.name)
                time.sleep(min(0.05 * 2**self.restarts, LONGEST_WAIT))

    def join(self, timeout: float) -> bool:
        """Wait for the end of the work; whether it has ended."""
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()
