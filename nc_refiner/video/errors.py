"""The one exception of this room, under the name that users of video files know it by."""

from __future__ import annotations

from ..files import FileError

__all__ = ["VideoError"]

VideoError = FileError
