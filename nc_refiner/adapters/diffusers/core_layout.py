"""A call's latents as the core knows them: which axis is time, and the mask on their grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from ...calibration import NoiseCalibration
from ...mask import Place
from .errors import NotSDEdit
from .shapes import frame_multiple, input_name

__all__ = ["AS_IT_IS", "CoreLayout", "core_layout", "mask_weights", "shown_frames"]

_FRAMES_BEFORE_CHANNELS = ("AnimateDiff", "CogVideoX")
"""How the names of pipelines begin that noise `(B, F, C, H, W)`; asked only where the sizes of both axes are alike."""


@dataclass(frozen=True)
class CoreLayout:
    """Between the latents as a pipeline noises them and `(B, C, H, W)` or `(B, C, F, H, W)`; changes no value."""

    to_core: Callable[[Tensor], Tensor]
    to_host: Callable[[Tensor], Tensor]


def _same(x: Tensor) -> Tensor:
    return x


def _exchanged(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


AS_IT_IS = CoreLayout(_same, _same)
_EXCHANGED = CoreLayout(_exchanged, _exchanged)
_FRAMES_AS_BATCH = CoreLayout(lambda x: x.transpose(0, 1)[None], lambda x: x[0].transpose(0, 1))


def _channels(pipe: Any) -> set[int]:
    """How many channels the latents may have, by the parts of the pipeline."""
    vae = getattr(getattr(pipe, "vae", None), "config", None)
    network = getattr(getattr(pipe, "transformer", None) or getattr(pipe, "unet", None), "config", None)
    names = [(vae, "latent_channels"), (vae, "z_dim"), (network, "in_channels"), (network, "out_channels")]
    return {value for config, name in names if isinstance(value := getattr(config, name, None), int)}


def core_layout(pipe: Any, noised: Tensor, frames: int | None) -> CoreLayout:
    """How the latents `noised` lie.

    Args:
        pipe: the pipeline.
        noised: `(B, C, H, W)`; `(F, C, H, W)` of one clip; `(B, C, F, H, W)` or `(B, F, C, H, W)`.
        frames: of the clip the pipeline was given; None where that cannot be told.

    Raises:
        NotSDEdit: clips side by side in an axis that also holds their frames.
    """
    video = input_name(pipe) == "video"
    if noised.ndim == 4:
        if not video:
            return AS_IT_IS
        if frames is not None and noised.shape[0] != frames:
            raise NotSDEdit(
                f"{type(pipe).__name__}: {noised.shape[0]} latent frames for a clip of {frames}; with a mask "
                "or cutoff_time give one clip and one prompt per call"
            )
        return _FRAMES_AS_BATCH
    first, second = int(noised.shape[1]), int(noised.shape[2])
    if first != second:
        known = _channels(pipe)
        if (first in known) != (second in known):
            return AS_IT_IS if first in known else _EXCHANGED
        latent = None if frames is None else 1 + -(-(frames - 1) // frame_multiple(pipe))
        if latent in (first, second):
            return _EXCHANGED if latent == first else AS_IT_IS
    return _EXCHANGED if type(pipe).__name__.startswith(_FRAMES_BEFORE_CHANNELS) else AS_IT_IS


def _frame(value: Any) -> Tensor:
    """One frame `(3, H, W)`, or several, as a pipeline takes them, in [0, 1]."""
    if hasattr(value, "convert"):
        value = numpy.asarray(value.convert("RGB"))
    if isinstance(value, numpy.ndarray):
        found = torch.tensor(value).movedim(-1, -3)
        return found.float() / 255 if found.dtype == torch.uint8 else found.float()
    if isinstance(value, Tensor):
        found = value.detach().float().cpu()
        return found / 2 + 0.5 if bool(found.min() < 0) else found
    raise ValueError(f"a frame is a {type(value).__name__}; a mask that looks at frames needs pictures or tensors")


def shown_frames(pipe: Any, arguments: dict[str, Any]) -> Tensor | None:
    """The frames `(F, C, H, W)` that a call is given, pictures side by side too; None where it is given none.

    Raises:
        ValueError: of another kind, or several clips.
    """
    value = arguments.get(input_name(pipe))
    if value is None:
        return None
    parts = list(value) if isinstance(value, (list, tuple)) else [value]
    found = [_frame(part) for part in parts]
    flat = [part[None] if part.ndim == 3 else part for part in found]
    if any(part.ndim == 5 for part in flat):
        if len(flat) != 1 or flat[0].shape[0] != 1:
            raise ValueError(f"{type(pipe).__name__} was given several clips; with a mask give one per call")
        flat = [flat[0][0]]
    return torch.cat(flat)


def mask_weights(config: NoiseCalibration, core: Tensor, pipe: Any, frames: Tensor | None) -> Tensor | None:
    """The mask on the grid of `core`, latents as the core has them; None where there is no mask.

    Raises:
        ValueError: see `Mask.weights`; or more pictures come out than went in, so that none has its own mask.
    """
    if config.mask is None:
        return None
    seen = frames if frames is None or frames.shape[1] == 3 else None  # latents may be given in place of pictures
    if core.ndim == 5:
        count = None if frames is None or input_name(pipe) != "video" else len(frames)
        if count is None and input_name(pipe) != "video":
            seen, count = (seen if seen is None else seen[:1]), 1
        place = Place((int(core.shape[2]), int(core.shape[3]), int(core.shape[4])), count, factor=frame_multiple(pipe))
        return config.mask.weights(place, seen).to(core.device)
    count = 1 if frames is None else len(frames)
    place = Place((count, int(core.shape[-2]), int(core.shape[-1])), count)
    found = config.mask.weights(place, seen)[0].transpose(0, 1)
    if count not in (1, len(core)):
        raise ValueError(f"{count} pictures became {len(core)}; with a mask give one picture per call")
    return found.to(core.device)
