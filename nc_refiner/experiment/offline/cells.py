"""Finished cells on disk, each under a key of everything that decides it: a killed sweep goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...files import write_text

__all__ = ["CellStore", "cell_key"]

FORMAT = 1


def cell_key(**facts: Any) -> str:
    """A name for what `facts` decide; JSON-ready values."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CellStore:
    """One small JSON file per cell below `folder`; several sweeps, also at the same time, may share it.

    Raises:
        VideoError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row stored under `key`, if there is one that can be read."""
        try:
            row = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return row if isinstance(row, dict) else None

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Store `row`, whole or not at all."""
        write_text(self._folder / f"{key}.json", json.dumps(row, allow_nan=False)).commit()
