"""The network of the embedded refiner: a small, fully convolutional space-time U-Net with v-prediction."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SpaceTimeUNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a `SpaceTimeUNet`; it is stored beside the weights so that a file describes its own network.

    Attributes:
        in_channels: channels of the latents (48: RGB pixels after 4× space-to-depth).
        channels: width of each resolution level; every level halves height and width.
        blocks: residual blocks of each level, on the way down and again on the way up.
        embedding: width of the noise-level embedding.
        shift_fraction: share of a block's channels that is exchanged with each neighbouring frame.
    """

    in_channels: int = 48
    channels: tuple[int, ...] = (96, 128, 192)
    blocks: tuple[int, ...] = (2, 2, 1)
    embedding: int = 192
    shift_fraction: float = 0.25

    @property
    def stride(self) -> int:
        """Latent height and width must be multiples of this (4 for three levels)."""
        return int(2 ** (len(self.channels) - 1))

    def as_dict(self) -> dict[str, object]:
        """Plain, JSON-ready mapping; `UNetConfig.from_dict` restores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> UNetConfig:
        """The config that `as_dict` wrote; TypeError on unknown keys."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return cls(**fields)


def _as_frames_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class _PixelNorm(nn.Module):
    """RMS norm over the channels of every pixel: unlike a group norm it does not depend on the picture's size,
    so a network trained on crops sees the same statistics on whole frames, windows and tiles."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(_as_frames_last(x), self.weight.shape, self.weight.to(x.dtype), 1e-5)
        return y.permute(0, 3, 1, 2)


def _temporal_shift(x: Tensor, frames: int, width: int) -> Tensor:
    """Replace `width` channels by the previous frame's and `width` more by the next frame's (ends repeat)."""
    if frames == 1:
        return x
    y = x.unflatten(0, (-1, frames))
    before = torch.cat([y[:, :1, :width], y[:, :-1, :width]], dim=1)
    after = torch.cat([y[:, 1:, width : 2 * width], y[:, -1:, width : 2 * width]], dim=1)
    return torch.cat([before, after, y[:, :, 2 * width :]], dim=2).flatten(0, 1)


class _Block(nn.Module):
    """Residual block: spatial convolution, noise-level modulation, then a convolution that also sees both
    neighbouring frames through a temporal shift (a factorised space-time convolution)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, shift_fraction: float):
        super().__init__()
        self.norm1, self.norm2 = _PixelNorm(inputs), _PixelNorm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.shift = int(outputs * shift_fraction)
        nn.init.normal_(self.conv2.weight, std=1e-3)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = F.silu(h * (1 + scale) + shift)
        return self.skip(x) + self.conv2(_temporal_shift(h, frames, self.shift))


class _Bypass(nn.Module):
    """A linear path from input to output: a learned basis of the channels, one gain per basis vector that depends
    on the noise level, and the way back. Where a component of the picture is faint, v is nearly a multiple of the
    noisy input; carried here, that does not have to squeeze through the network's width."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.into, self.back = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.gain = nn.Linear(embedding, channels)
        nn.init.orthogonal_(self.into.weight)
        with torch.no_grad():
            self.back.weight.copy_(self.into.weight.flatten(1).T[:, :, None, None])
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.back(self.into(x) * self.gain(embedding)[:, :, None, None])


class SpaceTimeUNet(nn.Module):
    """v-prediction network over latents `(B, C, F, H, W)`.

    Fully convolutional in space and time: any number of frames, any height and width that are multiples of
    `config.stride`. Trained weights ship beside this file; a freshly built network is small but not zero.
    """

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        self.config = config = config or UNetConfig()
        widths, blocks, width = config.channels, config.blocks, config.embedding
        half = width // 2
        frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(64.0), half))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.inlet = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()

        def block(inputs: int, outputs: int) -> _Block:
            return _Block(inputs, outputs, width, config.shift_fraction)

        for level, channels in enumerate(widths):
            self.down.append(nn.ModuleList(block(channels, channels) for _ in range(blocks[level])))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(channels, widths[level + 1], 2, stride=2))
        self.middle = block(widths[-1], widths[-1])
        for level in reversed(range(len(widths))):
            channels = widths[level]
            rest = [block(channels, channels) for _ in range(blocks[level] - 1)]
            self.up.append(nn.ModuleList([block(2 * channels, channels), *rest]))
            if level > 0:
                self.grow.append(nn.Conv2d(channels, 4 * widths[level - 1], 1))
        self.outlet = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)
        nn.init.normal_(self.outlet.weight, std=1e-2)
        self.bypass = _Bypass(config.in_channels, width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x_t: Tensor, phase: Tensor) -> Tensor:
        """Predict v = α·ε − σ·x₀.

        Args:
            x_t: noisy latents `(B, C, F, H, W)`.
            phase: noise level in [0, 1] per batch element `(B,)`: `2/π · atan2(σ, α)`.

        Returns:
            v, shaped as `x_t`.
        """
        batch, _, frames, _, _ = x_t.shape
        angles = phase[:, None].float() * cast(Tensor, self.frequencies)[None].float()
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1).to(x_t.dtype))
        embedding = embedding.repeat_interleave(frames, dim=0)
        x = x_t.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        h = self.inlet(x)
        skips = []
        for level, blocks in enumerate(self.down):
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding, frames)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.middle(h, embedding, frames)
        for index, blocks in enumerate(self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding, frames)
            if index < len(self.grow):
                h = F.pixel_shuffle(self.grow[index](h), 2)
        v = self.outlet(h) + self.bypass(x, embedding)
        return v.unflatten(0, (batch, frames)).transpose(1, 2)
