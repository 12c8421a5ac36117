"""Pipelines that noise in their own `prepare_latents`, past the scheduler: LTXConditionPipeline and LTX-2's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...noise_level import NoiseLevel
from ..runtime import MethodHook, replaced
from .coefficients import Noising
from .errors import NotSDEdit
from .layout import PackCall

__all__ = ["hand_noising_hooked", "is_hand_noised"]

Start = tuple[Tensor, float] | None
"""x_r `(B, C, F, H, W)` and σ, or None where the call noises nothing."""


def _ltx_condition(pipe: Any, bound: dict[str, Any]) -> Start:
    """LTXConditionPipeline: `latents=` with `denoise_strength` below 1."""
    reference, sigma = bound.get("latents"), bound.get("sigma")
    if reference is None or sigma is None:
        return None
    if bound.get("conditions"):
        raise NotSDEdit(
            f"{type(pipe).__name__}: with conditions every token has a noise level of its own, and calibration "
            "needs one level. Call it with latents= and denoise_strength alone, or use iterations=0"
        )
    return reference, float(sigma[0])


def _ltx2(pipe: Any, bound: dict[str, Any]) -> Start:
    """LTX2Pipeline: `latents=` with `noise_scale`, its second stage."""
    latents, sigma = bound.get("latents"), float(bound.get("noise_scale", 0.0))
    if latents is None or sigma == 0:
        return None
    if latents.ndim != 5:
        raise NotSDEdit(f"{type(pipe).__name__}: give latents as (B, C, F, H, W), found {tuple(latents.shape)}")
    vae = pipe.vae
    return pipe._normalize_latents(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor), sigma


def _ltx2_conditioned(pipe: Any, bound: dict[str, Any]) -> Start:
    """LTX2ConditionPipeline and LTX2InContextPipeline, called as a second stage without conditions."""
    if bound.get("conditions") or bound.get("reference_conditions"):
        raise NotSDEdit(
            f"{type(pipe).__name__}: with conditions every token has a noise level of its own, and calibration "
            "needs one level. Call it with latents= and noise_scale alone, or use iterations=0"
        )
    return _ltx2(pipe, bound)


_HAND_NOISED: dict[str, Callable[[Any, dict[str, Any]], Start]] = {
    "LTX2ConditionPipeline": _ltx2_conditioned,
    "LTX2InContextPipeline": _ltx2_conditioned,
    "LTX2Pipeline": _ltx2,
    "LTXConditionPipeline": _ltx_condition,
}


def is_hand_noised(cls: type) -> bool:
    """Whether pipelines of this class mix `latents=` and noise themselves."""
    return cls.__name__ in _HAND_NOISED


@contextmanager
def hand_noising_hooked(pipe: Any, on_noised: Callable[[Noising], Tensor]) -> Iterator[None]:
    """Inside the block a hand-noising pipeline's `prepare_latents` goes through `on_noised`; others are left alone."""
    if not is_hand_noised(type(pipe)):
        yield
        return
    start, method = _HAND_NOISED[type(pipe).__name__], pipe.prepare_latents
    signature = inspect.signature(method)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        found = start(pipe, dict(signature.bind(*args, **kwargs).arguments))
        prepared = method(*args, **kwargs)
        if found is None:
            return prepared
        packed = prepared[0] if isinstance(prepared, tuple) else prepared
        reference, sigma = found[0].to(packed.device, packed.dtype), found[1]
        patches = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        layout = PackCall(reference, type(pipe)._pack_latents, patches, {}).layout(reference)
        if layout is None:
            raise NotSDEdit(f"{type(pipe).__name__} packs its latents in a way that cannot be undone; use iterations=0")
        x_t = layout.to_noised(packed)
        answer = on_noised(Noising(x_t, reference, NoiseLevel(1 - sigma, sigma), torch.tensor(1000 * sigma)))
        if answer is x_t:
            return prepared
        repacked = layout.to_sample(answer)
        return (repacked, *prepared[1:]) if isinstance(prepared, tuple) else repacked

    with replaced(pipe, "prepare_latents", MethodHook(method, hooked)):
        yield
