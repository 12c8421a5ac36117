"""Pictures, through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import VideoError
from .info import VideoInfo
from .limits import ReadLimits

__all__ = ["inspect_still", "read_still"]

_ORIENTATION_TAG = 0x0112
_TRANSPOSED = {5, 6, 7, 8}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Our own limit on pixels is checked before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError:
        raise VideoError(f"{path}: is not a picture that can be read; save it again as PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise VideoError(f"{path}: has too many pixels; scale the picture down") from None
    except VideoError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise VideoError(f"{path}: the picture is damaged or cut off ({error}); save or copy it again") from None


def inspect_still(path: Path, limits: ReadLimits) -> Any:
    """The `VideoInfo` of a picture: one frame at 1 fps; raises `VideoError`."""

    with _opened(path) as image:
        count = int(getattr(image, "n_frames", 1))
        if count > 1 and image.format != "JPEG" and image.format != "MPO":
            raise VideoError(f"{path}: is an animation of {count} frames; convert it to mp4")
        width, height = image.size
        if image.getexif().get(_ORIENTATION_TAG) in _TRANSPOSED:
            width, height = height, width
        limits.check_size(path, width, height)
        return VideoInfo(path, 1, 1.0, width, height, 1.0, False, False, image.mode, 0, True)


def read_still(path: Path, limits: ReadLimits) -> Tensor:
    """The picture as float32 `(3, H, W)`, RGB, in [0, 1], upright, transparency over black; raises `VideoError`."""
    import numpy
    from PIL import Image, ImageOps

    with _opened(path) as opened:
        limits.check_size(path, *opened.size)
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16") or image.mode == "I":
            # Pillow would clip sixteen bits of grey at 255 instead of scaling them.
            grey = torch.from_numpy(numpy.asarray(image).astype("float32")).div_(65535).clamp_(0, 1)
            return grey.expand(3, -1, -1).contiguous()
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
        pixels = numpy.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
