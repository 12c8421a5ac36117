"""How steady a clip is: metrics over neighbouring frames of `(F, 3, H, W)`, RGB in [0, 1]; each `(F − 1,)` float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .extras import needs
from .prepared import Prepared, PreparedPair, prepared, prepared_pair

__all__ = ["Motion", "flicker", "motion_of", "warping_error", "warping_errors"]

MIN_FLOW_SIDE = 16


def flicker(frames: Tensor | Prepared) -> Tensor:
    """Mean absolute change between neighbouring frames: VBench's temporal flickering (Huang et al. 2024), in [0, 1].

    Motion counts as well as flicker: read it beside the reference's own value.

    Args:
        frames: `(F, 3, H, W)`, RGB, in [0, 1], `F ≥ 2`.

    Raises:
        ValueError: fewer than two frames, another shape, or NaN.

    >>> flicker(torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.25)])).item()
    0.25
    """
    pixels = _several("frames", prepared("frames", frames).frames)
    return pixels.diff(dim=0).abs_().mean(dim=(1, 2, 3), dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where the pixels of each frame go until the next one.

    Attributes:
        flow: `(F − 1, 2, H, W)` float32, pixels, columns first.
        visible: `(F − 1, H, W)` bool, pixels that are still there in the next frame.
    """

    flow: Tensor
    visible: Tensor


def motion_of(frames: Tensor | Prepared) -> Motion:
    """Motion of `(F, 3, H, W)`, `F ≥ 2`: DIS flow (Kroeger et al. 2016; OpenCV, medium preset) of the luma.

    Pixels whose forward and backward flow disagree (Sundaram et al. 2010: |f + b|² > 0.01 (|f|² + |b|²) + 0.5) or
    that leave the frame count as hidden. ValueError and ImportError as `warping_error`.
    """
    ready = prepared("reference", frames)
    _several("reference", ready.frames)
    if min(ready.frames.shape[-2:]) < MIN_FLOW_SIDE:
        size = tuple(ready.frames.shape[-2:])
        raise ValueError(f"optical flow needs frames of at least {MIN_FLOW_SIDE}×{MIN_FLOW_SIDE}, found {size}")
    with needs("opencv-python-headless", "cv2"):
        import cv2
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = ready.luma.mul(255).round().clamp(0, 255).byte()[:, 0].cpu().numpy()

    def flow(first: Any, second: Any) -> Tensor:
        return torch.from_numpy(estimator.calc(first, second, None)).permute(2, 0, 1)

    forward = [flow(grey[i], grey[i + 1]) for i in range(len(grey) - 1)]
    backward = [flow(grey[i + 1], grey[i]) for i in range(len(grey) - 1)]
    return Motion(torch.stack(forward), torch.stack([_visible(*pair) for pair in zip(forward, backward, strict=True)]))


def warping_error(
    reference: Tensor | PreparedPair, output: Tensor | None = None, motion: Motion | None = None
) -> Tensor:
    """Mean squared difference of each output frame to the next one, carried back along the reference's motion.

    Lai et al. 2018. Hidden pixels are left out; a pair of frames that has no other gives NaN. It rewards blur and is no
    score of quality: read it beside the reference's own value, `warping_error(reference, reference)`.

    Args:
        reference, output: `(F, 3, H, W)`, RGB, in [0, 1], both alike, `F ≥ 2`, at least 16×16.
        motion: `motion_of(reference)` where it is known already.

    Raises:
        ValueError: shapes that differ, fewer than two frames, frames under 16×16, or NaN.
        ImportError: OpenCV is not installed.
    """
    pair = prepared_pair(reference, output)
    found = motion_of(pair.reference) if motion is None else motion
    return _warped(_several("output", pair.output.frames), found)


def warping_errors(pair: PreparedPair) -> tuple[Tensor, Tensor]:
    """`warping_error` of the output and of the reference itself, along one motion."""
    found = motion_of(pair.reference)
    both = torch.cat([pair.output.frames, pair.reference.frames], dim=1)
    errors = _warped(both, found, parts=2)
    return errors[:, 0], errors[:, 1]


def _warped(frames: Tensor, motion: Motion, parts: int = 1) -> Tensor:
    """Errors `(F − 1,)` of `(F, 3, H, W)`; `(F − 1, parts)` where that many pictures lie behind one another."""
    errors = []
    for i in range(len(frames) - 1):
        here, after = frames[i].cpu(), frames[i + 1].cpu()
        apart = (here - _carried_back(after, motion.flow[i].to(after.dtype))).square()
        error = apart.unflatten(0, (parts, -1)).mean(dim=1)[:, motion.visible[i]]
        errors.append(error.mean(dim=1, dtype=torch.float64))
    return torch.stack(errors) if parts > 1 else torch.stack(errors)[:, 0]


def _several(name: str, frames: Tensor) -> Tensor:
    if len(frames) < 2:
        raise ValueError(f"{name} has one frame; temporal metrics need at least two")
    return frames


def _grid(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel goes, as `grid_sample` wants it `(1, H, W, 2)`, and whether that is in the frame `(H, W)`."""
    _, height, width = flow.shape
    x = torch.arange(width, dtype=flow.dtype) + flow[0]
    y = torch.arange(height, dtype=flow.dtype)[:, None] + flow[1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)[None], inside


def _carried_back(picture: Tensor, flow: Tensor) -> Tensor:
    """`picture` `(C, H, W)` looked up bilinearly where `flow` leads."""
    grid, _ = _grid(flow)
    return F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0]


def _visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Pixels `(H, W)` that are still there in the next frame."""
    _, inside = _grid(forward)
    back = _carried_back(backward, forward)
    apart = (forward + back).square().sum(dim=0)
    reach = forward.square().sum(dim=0) + back.square().sum(dim=0)
    return inside & (apart <= 0.01 * reach + 0.5)
