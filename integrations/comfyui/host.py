"""The few things of ComfyUI that calibrating asks for, so that it can be tested without ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KEY", "Host", "comfyui"]

KEY = "nc_refiner"
"""Under which our wrapper stands on a model: a second one takes the place of the first."""


@dataclass(frozen=True)
class Host:
    """What differs between ComfyUI and a stand-in.

    Attributes:
        masked_model: class called as `masked_model(guider, sigmas)`; its instances take `noise` and `latent_image` as
            attributes and predict x̂₀ as samplers see it: what `denoise_mask` keeps is put in before and after.
        plain_guider: class whose `predict_noise` guides with the attribute `cfg`; other guiders decide for themselves.
        check_interrupt: raises ComfyUI's own exception where the user pressed stop.
    """

    masked_model: Callable[[Any, Any], Any]
    plain_guider: type
    check_interrupt: Callable[[], None]


def comfyui() -> Host:
    """The running ComfyUI."""
    import comfy.model_management
    import comfy.samplers

    return Host(
        masked_model=comfy.samplers.KSamplerX0Inpaint,
        plain_guider=comfy.samplers.CFGGuider,
        check_interrupt=comfy.model_management.throw_exception_if_processing_interrupted,
    )
