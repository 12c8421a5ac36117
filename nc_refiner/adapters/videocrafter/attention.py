"""Which attention the host's layers use: xformers where it has a kernel, PyTorch's own where it has none."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import has_xformers_kernel

__all__ = ["use_working_attention"]


def _attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    """Stands in for `xformers.ops.memory_efficient_attention` on `(B·heads, tokens, channels)`."""
    return F.scaled_dot_product_attention(query, key, value)


_STAND_IN = SimpleNamespace(ops=SimpleNamespace(memory_efficient_attention=_attention))


def _with_sdpa(layer: torch.nn.Module) -> Callable[..., Tensor]:
    """The layer's own efficient forward, reading PyTorch's attention where it reads xformers'."""
    kind: Any = type(layer)
    host = kind.efficient_forward
    function = FunctionType(
        host.__code__, {**host.__globals__, "xformers": _STAND_IN}, host.__name__, host.__defaults__, host.__closure__
    )
    efficient, plain = MethodType(function, layer), MethodType(kind.forward, layer)

    def forward(x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        # The efficient forward knows no mask.
        return efficient(x, context=context) if mask is None else plain(x, context=context, mask=mask)

    return forward


def use_working_attention(model: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> int:
    """Point single layers away from xformers where it has no kernel; returns how many.

    The host picks xformers for every layer as soon as it imports, also where it cannot run. Such a layer gets the
    host's efficient forward over PyTorch's attention. So does, on a GPU without xformers, a layer on the host's plain
    forward, whose memory grows with the square of the frame's size. Layers that work are left alone, classes too.
    """
    changed = 0
    for layer in model.modules():
        if not hasattr(type(layer), "efficient_forward") or getattr(layer, "relative_position", False):
            continue
        chosen = getattr(vars(layer).get("forward"), "__name__", "") == "efficient_forward"
        if not chosen and device.type == "cpu":
            continue
        if has_xformers_kernel(str(device), dtype, int(getattr(layer, "dim_head", 64))):
            continue
        vars(layer)["forward"] = _with_sdpa(layer)
        changed += 1
    return changed
