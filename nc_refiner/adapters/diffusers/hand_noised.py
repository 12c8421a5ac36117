"""Pipelines that noise in their own `prepare_latents`, past the scheduler: LTXConditionPipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ...noise_level import NoiseLevel
from .coefficients import Noising
from .errors import NotSDEdit
from .layout import PackCall
from .patching import MethodHook, replaced

__all__ = ["hand_noising_hooked", "is_hand_noised"]

_HAND_NOISED = ("LTXConditionPipeline",)


def is_hand_noised(cls: type) -> bool:
    """Whether pipelines of this class mix input and noise themselves, from `latents=` and a strength."""
    return any(parent.__name__ in _HAND_NOISED for parent in cls.__mro__)


@contextmanager
def hand_noising_hooked(pipe: Any, on_noised: Callable[[Noising], Tensor]) -> Iterator[None]:
    """Inside the block a hand-noising pipeline's `prepare_latents` goes through `on_noised`; others are left alone."""
    if not is_hand_noised(type(pipe)):
        yield
        return
    method = pipe.prepare_latents
    signature = inspect.signature(method)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        reference, sigma = bound.get("latents"), bound.get("sigma")
        prepared = method(*args, **kwargs)
        if reference is None or sigma is None:
            return prepared
        if bound.get("conditions"):
            raise NotSDEdit(
                f"{type(pipe).__name__}: with conditions every token has a noise level of its own, and calibration "
                "needs one level. Call it with latents= and denoise_strength alone, or use iterations=0"
            )
        reference = reference.to(prepared[0].device, prepared[0].dtype)
        patches = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        layout = PackCall(reference, type(pipe)._pack_latents, patches, {}).layout(reference)
        if layout is None:
            raise NotSDEdit(f"{type(pipe).__name__} packs its latents in a way that cannot be undone; use iterations=0")
        x_t, level = layout.to_noised(prepared[0]), NoiseLevel(1 - float(sigma[0]), float(sigma[0]))
        answer = on_noised(Noising(x_t, reference, level))
        return prepared if answer is x_t else (layout.to_sample(answer), *prepared[1:])

    with replaced(pipe, "prepare_latents", MethodHook(method, hooked)):
        yield
