"""Weights without running code: safetensors, or pickles of nothing but tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["load_into", "read_state"]

_DEEPSPEED = "_forward_module."


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU.

    Understands a plain state dict, one under `state_dict` (Lightning) or under `module` (DeepSpeed, whose prefix is
    taken off).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle that holds more than tensors, which only running its code could read; or no state dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # a damaged header may fail in any way; for a person it is all one
            raise ValueError(f"{path.name} is no safetensors file: {error}") from error
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path.name} is refused: it cannot be read as plain tensors, and loading it whole would run the code it "
            f"brings ({reason}). Convert it to safetensors where you trust it, and name that file"
        ) from error
    except Exception as error:  # unpickling what is damaged raises nearly anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{path.name} is damaged or no checkpoint: {reason}") from error
    if isinstance(state, dict) and "module" in state:
        state = state["module"]
        if isinstance(state, dict):
            state = {str(name).removeprefix(_DEEPSPEED): value for name, value in state.items()}
    elif isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise ValueError(f"{path.name} holds no state dict of tensors (as such, under state_dict or under module)")
    return state


def load_into(model: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint into `model`; every weight must be there and no other.

    Raises:
        FileNotFoundError, ValueError: see `read_state`; or the checkpoint is of another model.
    """
    try:
        missing, unexpected = model.load_state_dict(read_state(path), strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path.name} does not fit the config: {reason}") from error
    if missing or unexpected:
        raise ValueError(
            f"{path.name} does not fit the config: {len(missing)} weights are missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} are unknown ({', '.join(unexpected[:3])})"
        )
