"""A mask from a picture or a clip."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import FileError, digest
from ..mask import Mask
from ..video.read import FrameReader

__all__ = ["FileMask"]

MOST_BYTES = 1 << 30
NEARLY = 1.5 / 255
"""How far a video's white and black may be from 1 and 0, by its compression, and still stand for them."""


class FileMask(Mask):
    """The grey of a picture, or of every frame of a clip: white is 1, black 0.

    It is read when it is first used, and kept. Values of a clip within 1.5/255 of white or black count as these.

    Args:
        path: the file, of any size; what it is told by stands in `describe` with its digest.

    Raises:
        FileError (a ValueError): it cannot be read, or would take more than 1 GiB.
    """

    def __init__(self, path: Path):
        with FrameReader(path) as reader:
            self.length, self._still = reader.frames, reader.info.still
            size = reader.frames * reader.height * reader.width
        if size > MOST_BYTES and not self._still:
            raise FileError(f"{path}: as a mask it takes {size / 2**30:.1f} GiB, the limit is 1; make it smaller")
        self._path, self._digest = Path(path), digest(Path(path))
        self._lock = threading.Lock()
        self._held: Tensor | None = None
        self.name = f"the mask {path}"

    def values(self, first: int, count: int, frames: Tensor | None) -> Tensor:
        with self._lock:
            if self._held is None:
                self._held = self._read()
        held = self._held if len(self._held) == 1 else self._held[first : first + count]
        if held.dtype != torch.uint8:
            return held
        grey = held.float() / 255
        return grey.where(grey > NEARLY, 0.0).where(grey < 1 - NEARLY, 1.0)

    def _read(self) -> Tensor:
        with FrameReader(self._path, exact_colour=True) as reader:
            # Bytes: a clip in float32 would be four times as large. A picture may have finer greys.
            grey = (frame.mean(dim=0) for frame in reader)
            if self._still:
                return next(grey)[None]
            return torch.stack([(frame * 255).round().to(torch.uint8) for frame in grey])

    def describe(self) -> dict[str, Any]:
        return {"file": str(self._path), "sha256": self._digest}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]
