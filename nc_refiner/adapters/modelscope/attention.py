"""PyTorch's own attention in place of xformers', on the instances of a network that was built for xformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime import has_xformers_kernel

__all__ = ["use_sdpa_where_needed"]

_NAME = "MemoryEfficientCrossAttention"
_MAX_BATCH = 16_384
"""Heads times sequences at once where the host's module names no `max_bs`; image-to-video's does not."""


def _forward(module: Any, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """`softmax(q·kᵀ/√d)·v` over `(B, L, heads · dim_head)`, as the host does, at most `max_bs` heads at once."""
    if mask is not None:
        raise NotImplementedError("this attention takes no mask, as the host's own does not")
    source = x if context is None else context
    query, key, value = (
        projected.unflatten(2, (module.heads, module.dim_head)).transpose(1, 2)
        for projected in (module.to_q(x), module.to_k(source), module.to_v(source))
    )
    size = max(1, getattr(module, "max_bs", _MAX_BATCH) // module.heads)
    parts = [
        F.scaled_dot_product_attention(*part)
        for part in zip(query.split(size), key.split(size), value.split(size), strict=True)
    ]
    found: Tensor = module.to_out(torch.cat(parts).transpose(1, 2).flatten(2))
    return found


def use_sdpa_where_needed(network: nn.Module) -> int:
    """Give every attention of `network` that wants xformers PyTorch's own where xformers has no kernel for it.

    Only instances are changed, never the host's class. Returns how many were.
    """
    changed = 0
    for module in network.modules():
        if type(module).__name__ != _NAME:
            continue
        weight: Any = module.to_q.weight  # type: ignore[union-attr]
        dtype = torch.float16 if weight.device.type == "cuda" and weight.dtype == torch.float32 else weight.dtype
        if has_xformers_kernel(str(weight.device), dtype, int(module.dim_head)):  # type: ignore[arg-type]
            continue
        module.forward = partial(_forward, module)
        changed += 1
    return changed
