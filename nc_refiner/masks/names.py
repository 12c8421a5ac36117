"""Names of the ready masks; needs no other package, for `--help` reads it."""

from __future__ import annotations

__all__ = ["READY"]

READY = ("text", "faces", "text+faces")
