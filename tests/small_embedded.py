"""The embedded network in small, with weights of its own: a step costs milliseconds.

For tests of what surrounds a network. What the shipped one can do is tested with the `embedded` fixture.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from nc_refiner.adapters.embedded.model import DenoiserConfig, VideoDenoiser
from nc_refiner.adapters.embedded.weights import save_network

SMALL = DenoiserConfig(
    width=8, layers=4, mix_after=(1, 2), help_after=(1, 2), coarse=(8, 8), blocks=(1, 1), embedding=16
)


def grown(network: VideoDenoiser) -> VideoDenoiser:
    """That network with every weight drawn: nothing in it is zero, so that all of it takes part."""
    generator = torch.Generator().manual_seed(4)
    for parameter in network.parameters():
        parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    network.trunk[-1].bias.data.fill_(0.5)  # mid-grey: nothing is lost where pixels are clamped
    return network.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def small_weights() -> Path:
    """A weight file of it, for `EmbeddedRefiner(weights=…)`; written once a process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="nc_refiner_small_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        save_network(grown(VideoDenoiser(SMALL)), folder / "small.safetensors")
    return folder / "small.safetensors"
