"""Where the page's runs write: a folder each, of which only the latest stay."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from pathlib import Path

__all__ = ["RunFolders"]


class RunFolders:
    """A new temporary folder for every run. The oldest goes when there are more than `most`, all when the process ends.

    Args:
        most: how many stay, 1 or more; the page hands out copies, so that a few are plenty.
    """

    def __init__(self, most: int = 8):
        self._held: deque[tempfile.TemporaryDirectory[str]] = deque()
        self._most = most
        self._lock = threading.Lock()

    def new(self) -> Path:
        """An empty folder."""
        # A run that was stopped may still be writing into one that goes.
        folder = tempfile.TemporaryDirectory(prefix="nc_refiner_app_", ignore_cleanup_errors=True)
        with self._lock:
            self._held.append(folder)
            gone = [self._held.popleft() for _ in range(len(self._held) - self._most)]
        for old in gone:
            old.cleanup()
        return Path(folder.name)
