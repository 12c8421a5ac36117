"""Weights between the start and what training made of it.

Training on few films forgets some of what the start knew of other pictures; weights part of the way keep most of both
(WiSE-FT: Wortsman et al., CVPR 2022). Refining costs no more.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from nc_refiner.adapters.embedded.model import DenoiserConfig, VideoDenoiser

from .loop import fits


def blended(start: VideoDenoiser, trained: VideoDenoiser, trunk: float, mixing: float, gate: float) -> VideoDenoiser:
    """A network between two of one shape.

    Args:
        start: its trunk is where `trunk` 0 lies.
        trained: what `trunk` 1 and `mixing` 1 are.
        trunk: share of the way that the trunk goes.
        mixing: factor on what neighbours and helper add to the trunk.
        gate: see `DenoiserConfig.gate`.

    Raises:
        ValueError: the two are of different shapes.
    """
    begun, state = _begun(start, trained), {}
    for name, value in trained.state_dict().items():
        if name.startswith("trunk."):
            value = begun[name].lerp(value, trunk)
        elif name.startswith(("mix.", "helper.out.")):
            value = mixing * value
        state[name] = value
    return _made(replace(trained.config, gate=gate), state)


def between(start: VideoDenoiser, trained: VideoDenoiser, share: float) -> VideoDenoiser:
    """All of a network's weights `share` of the way from one training run's start to its end.

    Raises:
        ValueError: the two are of different shapes.
    """
    begun = _begun(start, trained)
    state = {name: begun[name].lerp(value, share) for name, value in trained.state_dict().items()}
    return _made(trained.config, state)


def _begun(start: VideoDenoiser, trained: VideoDenoiser) -> dict[str, Tensor]:
    if not fits(start.config, trained.config):
        raise ValueError(f"the start is of shape {start.config}, the trained network of {trained.config}")
    return start.state_dict()


def _made(config: DenoiserConfig, state: dict[str, Tensor]) -> VideoDenoiser:
    network = VideoDenoiser(config)
    network.load_state_dict(state)
    return network
