"""Loading and writing the embedded model's weights: safetensors, half precision, the network's shape in the header."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from .model import DenoiserConfig, VideoDenoiser

__all__ = ["DEFAULT_WEIGHTS", "load_network", "save_network"]

DEFAULT_WEIGHTS = Path(__file__).with_name("embedded.safetensors")


def save_network(network: VideoDenoiser, path: Path) -> None:
    """Write weights as float16 with the network's config in the header; beside the target first, then renamed."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"config": json.dumps(network.config.as_dict())})
    part.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(part, path)


def load_network(path: Path | str = DEFAULT_WEIGHTS) -> VideoDenoiser:
    """Build the network a weight file describes, in float32 on the CPU, in eval mode, without gradients.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file of an embedded refiner of this layout.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; reinstall nc_refiner or pass weights=PATH")
    try:
        with safe_open(path, framework="pt") as stored:
            shape = json.loads((stored.metadata() or {})["config"])
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file may fail in any way; for a person it is all one
        raise ValueError(f"{path} is not a weight file of the embedded refiner ({error})") from error
    if isinstance(shape, dict) and "in_channels" in shape:
        raise ValueError(
            f"{path} holds weights of the earlier embedded refiner (latents of 48 planes); this version's latents are "
            "pixels and need its own: leave weights out, or train with tools/train_embedded.py"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            network = VideoDenoiser(DenoiserConfig.from_dict(shape))
        network.load_state_dict(tensors)
    except Exception as error:  # the same for what it says of the network's shape
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is not a weight file of the embedded refiner ({reason})") from error
    return network.eval().requires_grad_(False)
