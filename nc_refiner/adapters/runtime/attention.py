"""Whether xformers can serve a host that wants it: installed is not enough, it must have a kernel for the device."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch

__all__ = ["has_xformers_kernel"]


@lru_cache(maxsize=64)
def has_xformers_kernel(device: str | torch.device, dtype: torch.dtype, head_dim: int = 64) -> bool:
    """Whether xformers computes attention on `device` in `dtype` for heads of `head_dim` channels.

    Asked by computing a little attention once; where it is False, hosts are pointed at PyTorch's own
    `scaled_dot_product_attention`. Never raises and draws no random number.
    """
    if find_spec("xformers") is None:
        return False
    try:
        from xformers.ops import memory_efficient_attention

        query = torch.zeros((1, 8, 1, head_dim), device=device, dtype=dtype)
        return bool(torch.isfinite(memory_efficient_attention(query, query, query)).all())
    except Exception:  # a build for another torch, no kernel, no such device: all mean that it cannot be used
        return False
