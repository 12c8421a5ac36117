"""Which attention the host's layers use: xformers where it has a kernel, PyTorch's own where it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import has_xformers_kernel, replaced

__all__ = ["attention_layers", "working_attention"]


def _attention(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    """Stands in for `xformers.ops.memory_efficient_attention` on `(B·heads, tokens, channels)`.

    PyTorch's fused kernels take four axes; with three it computes the whole table of tokens × tokens.
    """
    return F.scaled_dot_product_attention(query[None], key[None], value[None])[0]


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


def attention_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that have the host's efficient forward and could use it."""
    return [
        layer
        for layer in model.modules()
        if hasattr(type(layer), "efficient_forward") and not getattr(layer, "relative_position", False)
    ]


@contextmanager
def working_attention(layers: list[torch.nn.Module], device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Inside the block single layers are pointed away from xformers where it has no kernel.

    The host picks xformers for every layer as soon as it imports, also where it cannot run. Such a layer gets the
    host's efficient forward over PyTorch's attention. So does, on a GPU without xformers, a layer on the host's plain
    forward, whose memory grows with the square of the frame's size. Layers that work are left alone, classes too; after
    the block every layer is as it was.
    """
    with ExitStack() as stack:
        for layer in layers:
            chosen = getattr(vars(layer).get("forward"), "__name__", "") == "efficient_forward"
            if not chosen and device.type == "cpu":
                continue
            if has_xformers_kernel(str(device), dtype, int(getattr(layer, "dim_head", 64))):
                continue
            stack.enter_context(replaced(layer, "forward", _with_sdpa(layer)))
        yield
