"""PyTorch's own attention in place of xformers', on the instances of a network that was built for xformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime import has_xformers_kernel, replaced

__all__ = ["use_sdpa_where_needed", "working_attention"]

_NAME = "MemoryEfficientCrossAttention"
_MAX_BATCH = 16_384
"""Heads times sequences at once where the host's module names no `max_bs`; image-to-video's does not."""


def _sdpa(module: Any, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
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
    # Joining a single part would copy it: about 295 MB at 720p.
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    found: Tensor = module.to_out(joined.transpose(1, 2).flatten(2))
    return found


def _forward(module: Any, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The host's own forward where xformers has a kernel for what it is given, ours where it has none.

    Asked at every call, for a network may be moved after it was wrapped; the answer is remembered.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    else:
        dtype = module.to_q.weight.dtype
    if has_xformers_kernel(str(x.device), dtype, int(module.dim_head)):
        found: Tensor = type(module).forward(module, x, context, mask)
        return found
    return _sdpa(module, x, context, mask)


def _layers(network: Any) -> list[nn.Module]:
    # The host calls any function of (x, t, y) a model.
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return [module for module in modules if type(module).__name__ == _NAME]


@contextmanager
def working_attention(network: Any) -> Iterator[None]:
    """Inside the block every attention of `network` that wants xformers does without where it has no kernel."""
    with ExitStack() as stack:
        for module in _layers(network):
            stack.enter_context(replaced(module, "forward", partial(_forward, module)))
        yield


def use_sdpa_where_needed(network: nn.Module) -> int:
    """As `working_attention`, for good: for a network that was loaded here. Returns how many layers there are.

    Only instances are changed, never the host's class.
    """
    layers = _layers(network)
    for module in layers:
        module.forward = partial(_forward, module)
    return len(layers)
