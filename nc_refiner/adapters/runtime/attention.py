"""Whether xformers can serve a host that wants it: installed is not enough, it must have a kernel for the device."""

from __future__ import annotations

from importlib.util import find_spec

import torch

__all__ = ["has_xformers_kernel"]

_known: dict[tuple[str, torch.dtype, int], bool] = {}


def has_xformers_kernel(device: str | torch.device, dtype: torch.dtype, head_dim: int = 64) -> bool:
    """Whether xformers computes attention on `device` in `dtype` for heads of `head_dim` channels.

    Asked by computing a little attention once, and remembered unless memory was short; where it is False, hosts are
    pointed at PyTorch's own `scaled_dot_product_attention`. Never raises and draws no random number.
    """
    asked = (str(device), dtype, head_dim)
    if asked not in _known:
        try:
            _known[asked] = _computes(*asked)
        except torch.OutOfMemoryError:  # says nothing about the kernel: ask again another time
            return False
    return _known[asked]


def _computes(device: str, dtype: torch.dtype, head_dim: int) -> bool:
    if find_spec("xformers") is None:
        return False
    try:
        from xformers.ops import memory_efficient_attention

        query = torch.zeros((1, 8, 1, head_dim), device=device, dtype=dtype)
        return bool(torch.isfinite(memory_efficient_attention(query, query, query)).all())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a build for another torch, no kernel, no such device: all mean that it cannot be used
        return False
