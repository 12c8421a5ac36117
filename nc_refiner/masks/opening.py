"""A mask by what names it: a path, a ready mask, or a receipt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..mask import Mask
from .files import FileMask
from .ready import ready_mask

__all__ = ["open_mask", "reopened"]


def open_mask(value: str | os.PathLike[str]) -> Mask:
    """A ready mask (`text`, `faces`, `text+faces`), or the picture or clip at a path.

    A file of such a name is meant by `./text`. Nothing heavy is imported before the mask is used.

    Raises:
        ValueError: neither a ready mask nor a file that can be read.
    """
    found = ready_mask(value) if isinstance(value, str) else None
    return FileMask(Path(value)) if found is None else found


def reopened(described: dict[str, Any]) -> Mask:
    """The mask that a receipt describes.

    Raises:
        ValueError: it was no file and no ready mask, or the file is gone or has changed.
    """
    if "file" in described:
        mask = FileMask(Path(described["file"]))
        if mask.describe()["sha256"] != described.get("sha256"):
            raise ValueError(f"the mask {described['file']} has changed since; pass the options instead")
        return mask
    if "name" in described:
        return open_mask(str(described["name"]))
    raise ValueError("its mask was given in Python, as a tensor or a function; pass the options instead")
