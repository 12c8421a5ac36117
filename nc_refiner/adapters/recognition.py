"""Knowing a VideoCrafter model by what it has, without importing VideoCrafter."""

from __future__ import annotations

from typing import Any

__all__ = ["missing_attributes"]

_NEEDED = (
    "alphas_cumprod",
    "apply_model",
    "decode_first_stage_2DAE",
    "first_stage_model",
    "get_learned_conditioning",
    "num_timesteps",
    "parameterization",
    "q_sample",
    "scale_factor",
    "temporal_length",
    "uncond_type",
    "use_scale",
)


def missing_attributes(model: Any) -> list[str]:
    """The names of what a VideoCrafter `LatentDiffusion` has and `model` has not; empty for one that will do."""
    needed = (*_NEEDED, "scale_arr") if getattr(model, "use_scale", False) else _NEEDED
    return [name for name in needed if not hasattr(model, name)]
