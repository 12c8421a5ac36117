"""The one exception of this room."""

from __future__ import annotations

__all__ = ["VideoError"]


class VideoError(ValueError):
    """A video or picture that cannot be read, compared or written; the message is one line written for people."""
