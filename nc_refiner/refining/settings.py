"""What one refinement is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .fidelity import Fidelity

__all__ = ["RefineSettings"]


@dataclass(frozen=True)
class RefineSettings:
    """What one run is asked to do.

    Attributes:
        prompt, negative_prompt: text, where the host takes it.
        strength: share of the schedule that is run, in (0, 1]; None is the adapter's default.
        start_timestep: the initial timestep instead of `strength`; not both.
        num_inference_steps: steps of the whole schedule, ≥ 1; None is the adapter's default.
        guidance_scale: ≥ 0; None is the host's own.
        seed: 0 ≤ seed < 2⁶³; decides noise and every other draw.
        window, overlap: frames per window (None: the adapter's most, or 16 for clips longer than that) and how many
            frames neighbours share.
        max_latents_gib: clips longer than a window are calibrated as a whole and blended in latent space while one copy
            of their latents is at most so large, in GiB ≥ 0 (at the peak about seven are held); longer ones, and every
            one at 0, stream through and are faded in pixels.
        size: height and width in pixels to refine at, 1 to 16384 each; None keeps the input's.
        scale: the same as a factor of the input's size, above 0, at most 8; not both.
        keep: how near to the input the output must stay, a `Fidelity` or what `Fidelity.of` takes. Strength and ν are
            then chosen: the strongest refinement that holds it; `strength` is the highest allowed.
        tuning: file that `nc-refiner tune` made for this host; None starts from the one that ships.

    Raises:
        ValueError: out of range, both `strength` and `start_timestep`, or both `size` and `scale`.
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    start_timestep: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    window: int | None = None
    overlap: int = 4
    max_latents_gib: float = 0.5
    size: tuple[int, int] | None = None
    scale: float | None = None
    keep: Fidelity | None = None
    tuning: str | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            object.__setattr__(self, "keep", Fidelity.of(self.keep))
        elif self.tuning is not None:
            raise ValueError("tuning goes with keep: it says how far refinements of this host go")
        if self.strength is not None and self.start_timestep is not None:
            raise ValueError("strength and start_timestep say the same thing; give only one of them")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength is {self.strength}; it must lie in (0, 1], where 1 keeps nothing of the input")
        if self.start_timestep is not None and not self.start_timestep >= 0:
            raise ValueError(f"start_timestep is {self.start_timestep}; it must be at least 0")
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {self.num_inference_steps}; it must be at least 1")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"guidance_scale is {scale}; it must be a number of at least 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must lie in 0…2^63−1")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; it must be at least 1 frame")
        if self.overlap < 0:
            raise ValueError(f"overlap is {self.overlap}; it must be at least 0 frames")
        if not self.max_latents_gib >= 0:
            raise ValueError(f"max_latents_gib is {self.max_latents_gib}; it must be at least 0 (0: always stream)")
        if self.size is not None and self.scale is not None:
            raise ValueError("size and scale say the same thing; give only one of them")
        if self.size is not None:
            size = tuple(self.size)
            if len(size) != 2 or not all(isinstance(side, int) and 1 <= side <= 16384 for side in size):
                raise ValueError(f"size is {list(size)}; it must be height and width, whole numbers from 1 to 16384")
            object.__setattr__(self, "size", size)
        if self.scale is not None and not 0 < self.scale <= 8:
            raise ValueError(f"scale is {self.scale}; it must lie above 0, at most 8")
