"""What a refinement will do: steps, windows, prompts and notes, settled before anything runs."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

from ..adapters.base import RefinerAdapter, Timesteps
from ..calibration import NoiseCalibration, is_identity
from .fidelity import RUNS
from .settings import RefineSettings

__all__ = ["RefinePlan", "settled"]


def settled(adapter: RefinerAdapter, config: NoiseCalibration, guidance_scale: float | None) -> NoiseCalibration:
    """`config` as `adapter` runs it under this guidance (None: the host's own): `reuse_prediction` is yes or no.

    Raises:
        ValueError: it must reuse and the adapter cannot.
    """
    own = config.guidance_scale
    alike = own is None or own == guidance_scale or not adapter.requirements.guidance
    config = config.settled(adapter.can_reuse and alike and not is_identity(config))
    if config.reuse_prediction and not adapter.can_reuse:
        raise ValueError(f"reuse_prediction is not possible here: {adapter.name} makes every prediction itself")
    return config


class RefinePlan:
    """A refinement before it runs. Making one asks the host for nothing; `timesteps` and `condition` do, once each.

    Args:
        adapter: the host.
        calibration: how to calibrate; `iterations = 0` is plain SDEdit.
        settings: what to do.

    Attributes:
        calibration: as it will be run, nothing left open.
        notes: what of the settings the host cannot follow, in words.
        num_inference_steps, strength: as they will be run.

    Raises:
        ValueError: a window that is longer than the host takes, a start timestep it does not know, or an option of
            the calibration that it cannot follow.
    """

    def __init__(self, adapter: RefinerAdapter, calibration: NoiseCalibration, settings: RefineSettings):
        self.adapter, self.settings = adapter, settings
        self.calibration = settled(adapter, calibration, settings.guidance_scale)
        needs = adapter.requirements
        self.num_inference_steps = settings.num_inference_steps or needs.default_steps
        strength = settings.strength
        if settings.start_timestep is not None:
            strength = adapter.strength_at(settings.start_timestep)
        self.strength = needs.default_strength if strength is None else strength
        if settings.window is not None and needs.max_frames is not None and settings.window > needs.max_frames:
            raise ValueError(f"window is {settings.window} frames; {adapter.name} takes at most {needs.max_frames}")
        if calibration.hold and not is_identity(calibration) and not adapter.can_hold:
            raise ValueError(f"hold is {calibration.hold:g}, but {adapter.name} cannot: its denoise takes no `hold`")
        self.notes = self._cannot_follow()

    def _cannot_follow(self) -> list[str]:
        needs, settings, name = self.adapter.requirements, self.settings, self.adapter.name
        found = []
        if settings.prompt and not self.adapter.takes_prompt:
            found.append(f"prompt ignored: {name} is unconditional")
        if settings.negative_prompt and not (needs.negative_prompt and self.adapter.takes_prompt):
            found.append(f"negative prompt ignored: {name} does not take one")
        scales = (settings.guidance_scale, self.calibration.guidance_scale)
        if not needs.guidance and any(scale is not None for scale in scales):
            found.append(f"guidance scale ignored: {name} has no guidance")
        if self.calibration.cutoff_time is not None and needs.max_frames == 1:
            found.append(f"cutoff_time ignored: {name} refines frame by frame")
        return found

    @cached_property
    def timesteps(self) -> Timesteps:
        """The timesteps that will be run, by the host's own rule."""
        return self.adapter.timesteps(self.num_inference_steps, self.strength)

    @cached_property
    def condition(self) -> Any:
        """What the host's network will be conditioned on."""
        takes = self.adapter.takes_prompt
        return self.adapter.condition(
            *((self.settings.prompt, self.settings.negative_prompt) if takes else (None,) * 2)
        )

    def window_for(self, frames: int | None) -> int:
        """Frames per window for a clip of `frames` frames (None: unknown)."""
        most = self.adapter.requirements.max_frames
        if self.settings.window is not None:
            return self.settings.window
        if most is None:
            return frames or 16
        return frames if frames is not None and frames <= most else min(16, most)

    def overlap_for(self, window: int) -> int:
        """How many frames neighbouring windows of `window` frames share."""
        return min(self.settings.overlap, window - 1)

    def steps_for(self, frames: int) -> int:
        """How many times `on_step` will be called for a clip of `frames` frames; fewer with early stopping, or
        where a target takes fewer than `RUNS` runs."""
        window = self.window_for(frames)
        stride = max(1, window - self.overlap_for(window))
        count = 1 if frames <= window else 1 + math.ceil((frames - window) / stride)
        calibrating = 0 if is_identity(self.calibration) else self.calibration.iterations
        steps = self.adapter.count_steps(self.num_inference_steps, self.strength) + calibrating
        return steps * count * (RUNS if self.settings.keep is not None else 1)
