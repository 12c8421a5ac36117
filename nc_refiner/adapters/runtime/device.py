"""Where a model runs and in what precision, where nobody said."""

from __future__ import annotations

import torch

__all__ = ["default_device", "default_dtype", "named_dtype"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def default_device(*, mps: bool = False) -> torch.device:
    """CUDA where there is one, else the CPU; with `mps` also Apple's GPU, for hosts that run there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where a GPU has it, else float16 there; float32 on a CPU, where half precision is slow."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def named_dtype(value: torch.dtype | str) -> torch.dtype:
    """float32, float16 or bfloat16, given as such or by name (`torch.float16` and `float16` alike).

    Raises:
        ValueError: anything else.
    """
    dtype = value if isinstance(value, torch.dtype) else _DTYPES.get(str(value).removeprefix("torch."))
    if dtype not in _DTYPES.values():
        raise ValueError(f"dtype is {str(value)!r}; allowed: {', '.join(_DTYPES)}")
    return dtype  # type: ignore[return-value]
