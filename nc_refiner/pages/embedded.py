"""Videos inside a page, up to a limit."""

from __future__ import annotations

import base64

__all__ = ["Embedded"]


class Embedded:
    """Videos as text, each once, until they would take more than a limit together.

    Args:
        limit_bytes: what all videos may take.
        remedy: what a person can do about a video left out; ends its note.

    Attributes:
        videos: key in the page → base64 of an mp4.
        notes: one sentence for each video left out.
    """

    def __init__(self, limit_bytes: int, remedy: str = ""):
        self._limit, self._used, self._remedy = limit_bytes, 0, remedy
        self.videos: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, content: bytes, name: str) -> str | None:
        """The key of a video; None, with a note that names it, where it would be too much."""
        if self._used + len(content) > self._limit:
            note = (
                f"{name} is not embedded in the report: its {len(content) / 1e6:.1f} MB would pass the limit of "
                f"{self._limit / 1e6:g} MB"
            )
            self.notes.append(note + (f"; {self._remedy}" if self._remedy else ""))
            return None
        self._used += len(content)
        key = f"video-{len(self.videos)}"
        self.videos[key] = base64.b64encode(content).decode("ascii")
        return key
