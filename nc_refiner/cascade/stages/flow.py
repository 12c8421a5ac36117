"""`interpolation: flow`: frames added along the motion that OpenCV's DIS optical flow finds."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .base import StageOptions
from .blend import InterpolationStage
from .registry import register_stage

__all__ = ["FlowOptions", "FlowStage"]

OCCLUDED = 1.0
"""Pixels by which forward and backward flow may disagree before a place counts as hidden in the other frame."""


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "interpolation 'flow' needs OpenCV, which is not installed: pip install 'nc_refiner[flow]'"
        ) from error
    return cv2


class FlowOptions(StageOptions):
    """`factor`: how many times as many frames per second, 2 to 16."""

    type: Literal["flow"] = "flow"
    factor: int = Field(2, ge=2, le=16)


@register_stage("interpolation", "flow")
class FlowStage(InterpolationStage):
    """A frame in between is both neighbours moved along the optical flow (Kroeger et al. 2016, as OpenCV has it) to
    its time and mixed. Flow at that time is approximated from the two flows between the neighbours (Jiang et al. 2018,
    eq. 4); where those disagree a place is hidden in one neighbour, and the other alone is used.
    """

    Options = FlowOptions

    def check(self) -> None:
        """ImportError where OpenCV is missing."""
        _opencv()

    def between(self, before: Tensor, after: Tensor, times: list[float]) -> list[Tensor]:
        first, second = (frame.permute(1, 2, 0).contiguous().numpy() for frame in (before, after))
        forward, backward = self._flow(first, second), self._flow(second, first)
        vanishing, appearing = self._hidden(forward, backward), self._hidden(backward, forward)
        found = []
        for time in times:
            to_first = (-(1 - time) * time) * forward + time * time * backward
            to_second = (1 - time) ** 2 * forward - (time * (1 - time)) * backward
            moved = self._moved(first, to_first), self._moved(second, to_second)
            # What vanishes is in `before` alone, what appears in `after` alone; the rest is in both.
            vanishes, appears = self._moved(vanishing, to_first), self._moved(appearing, to_second)
            shares = (1 - time) * (1 - appears + 1e-3), time * (1 - vanishes + 1e-3)
            weight = (shares[0] / (shares[0] + shares[1]))[..., None]
            mixed = weight * moved[0] + (1 - weight) * moved[1]
            found.append(torch.from_numpy(mixed.astype(np.float32)).permute(2, 0, 1))
        return found

    def _flow(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        cv2 = _opencv()
        grey = [cv2.cvtColor((frame * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in (a, b)]
        solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow: np.ndarray = solver.calc(grey[0], grey[1], None)
        return flow

    def _moved(self, picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """`picture` sampled at every place plus `flow`."""
        cv2 = _opencv()
        height, width = flow.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        sampled: np.ndarray = cv2.remap(
            picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return sampled

    def _hidden(self, there: np.ndarray, back: np.ndarray) -> np.ndarray:
        """1 where going `there` and `back` again does not end where it began, 0 elsewhere; `(H, W)`."""
        miss = np.linalg.norm(there + self._moved(back, there), axis=-1)
        limit = OCCLUDED + 0.05 * np.linalg.norm(there, axis=-1)
        hidden: np.ndarray = (miss > limit).astype(np.float32)
        return hidden
