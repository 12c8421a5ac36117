"""The network of the embedded refiner: FFDNet's trunk, taught to look at neighbouring frames, and a coarse helper.

Zhang, Zuo, Zhang: FFDNet, IEEE Transactions on Image Processing 27(9), 2018. The trunk works at half the resolution;
the helper is a small U-Net at a quarter and an eighth of it, which gives the reach that heavy noise asks for.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DenoiserConfig", "VideoDenoiser"]

PACKING = 2
"""The trunk sees pixels after this much space-to-depth."""
COARSE_PACKING = 4
"""The helper's first level; every further level halves again."""
PIXEL_GAIN = 0.25
"""One unit of the latents, in pixels of [0, 1]: latents are 4·pixel − 2."""
OWN_ERROR = 0.5 / 255
"""About the error of the trunk's estimate where there is hardly any noise, in pixels. Where the noise is below it, the
noisy picture is the better estimate; the two are averaged by their variances."""
LOWEST_ALPHA = 0.3
"""Below this α the input is divided by this instead, so that it stays bounded up to pure noise."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of a `VideoDenoiser`; it is stored beside the weights so that a file describes its own network.

    Attributes:
        width, layers: the trunk's channels and 3×3 convolutions (FFDNet: 96 and 12).
        mix_after: trunk layers (from 1) after which the neighbouring frames' features are mixed in.
        help_after: trunk layers (from 1) after which the helper's features are added.
        coarse: the helper's channels at each level.
        blocks: its residual blocks at each level, on the way down and again on the way up.
        embedding: width of the noise-level embedding.
        shift_fraction: share of a block's channels that comes from each neighbouring frame.
        gate: σ (of 255, on pixels) at which mixing and helper count half, and less below it: where there is little
            noise the single frame says nearly everything. 0 counts them in full everywhere.
    """

    width: int = 96
    layers: int = 12
    mix_after: tuple[int, ...] = (1, 3, 5, 7, 9)
    help_after: tuple[int, ...] = (1, 6)
    coarse: tuple[int, ...] = (128, 192)
    blocks: tuple[int, ...] = (2, 2)
    embedding: int = 128
    shift_fraction: float = 0.25
    gate: float = 8.0

    @property
    def stride(self) -> int:
        """Height and width must be multiples of this (8 for two coarse levels)."""
        return COARSE_PACKING * int(2 ** (len(self.coarse) - 1))

    def as_dict(self) -> dict[str, object]:
        """Plain, JSON-ready mapping; `DenoiserConfig.from_dict` restores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> DenoiserConfig:
        """The config that `as_dict` wrote; TypeError on unknown keys."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        # Weights from before there was a gate do not name it.
        return cls(**{"gate": 0.0, **fields})


class _PixelNorm(nn.Module):
    """RMS norm over the channels of every pixel: unlike a group norm it does not depend on the picture's size,
    so a network trained on crops sees the same statistics on whole frames, windows and tiles."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight.to(x.dtype), 1e-5)
        return y.permute(0, 3, 1, 2)


def _shifted(x: Tensor, channels: int, frames: int) -> Tensor:
    """`(B·F, C, H, W)` with the previous frame's first `channels` and the next frame's next `channels` in place of its
    own, zero where there is no such frame.

    Zeros, not a repeated end: a frame that stood in for its own neighbour would bring the same noise twice."""
    own, seen = x.unflatten(0, (-1, frames)), x.clone()
    each, before, after = seen.unflatten(0, (-1, frames)), slice(0, channels), slice(channels, 2 * channels)
    each[:, 1:, before] = own[:, :-1, before]
    each[:, :1, before] = 0
    each[:, :-1, after] = own[:, 1:, after]
    each[:, -1:, after] = 0
    return seen


class _Mix(nn.Module):
    """Every frame gives each of its neighbours what a 1×1 convolution makes of its features; nothing before it is
    trained."""

    def __init__(self, channels: int):
        super().__init__()
        self.mix = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor, frames: int, weight: Tensor) -> Tensor:
        if frames == 1:
            return x
        onward, back = self.mix(x).unflatten(0, (-1, frames)).chunk(2, dim=2)
        moved = torch.zeros_like(x)
        each = moved.unflatten(0, (-1, frames))
        each[:, 1:] = onward[:, :-1]
        each[:, :-1] += back[:, 1:]
        return x + moved.mul_(weight.to(moved.dtype))


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
        nn.init.normal_(self.conv2.weight, std=1e-2)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = F.silu(h * (1 + scale) + shift)
        return cast(Tensor, self.skip(x) + self.conv2(_shifted(h, self.shift, frames)))


class _Helper(nn.Module):
    """A small U-Net at a quarter of the resolution and below; its features are added to the trunk's."""

    def __init__(self, config: DenoiserConfig):
        super().__init__()
        widths, half = config.coarse, config.embedding // 2
        frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(64.0), half))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(nn.Linear(2 * half, config.embedding), nn.SiLU())
        self.inlet = nn.Conv2d(3 * COARSE_PACKING**2 + 1, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()

        def block(inputs: int, outputs: int) -> _Block:
            return _Block(inputs, outputs, config.embedding, config.shift_fraction)

        for level, channels in enumerate(widths):
            self.down.append(nn.ModuleList(block(channels, channels) for _ in range(config.blocks[level])))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(channels, widths[level + 1], 2, stride=2))
        for level in reversed(range(len(widths))):
            channels = widths[level]
            rest = [block(channels, channels) for _ in range(config.blocks[level] - 1)]
            self.up.append(nn.ModuleList([block(2 * channels, channels), *rest]))
            if level > 0:
                self.grow.append(nn.Conv2d(channels, 4 * widths[level - 1], 1))
        self.norm = _PixelNorm(widths[0])
        scale = (COARSE_PACKING // PACKING) ** 2
        self.out = nn.ModuleList(nn.Conv2d(widths[0], scale * config.width, 1) for _ in config.help_after)
        for outlet in self.out:
            nn.init.zeros_(cast(Tensor, outlet.weight))
            nn.init.zeros_(cast(Tensor, outlet.bias))

    def forward(self, pixels: Tensor, spread: Tensor, phase: Tensor, frames: int) -> list[Tensor]:
        angles = phase[:, None].float() * cast(Tensor, self.frequencies)[None].float()
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1).to(pixels.dtype))
        h = F.pixel_unshuffle(pixels, COARSE_PACKING)
        h = self.inlet(torch.cat([h, _plane(spread, h)], dim=1))
        skips = []
        for level, blocks in enumerate(self.down):
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding, frames)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        for index, blocks in enumerate(self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding, frames)
            if index < len(self.grow):
                h = F.pixel_shuffle(self.grow[index](h), 2)
        h = F.silu(self.norm(h))
        return [F.pixel_shuffle(outlet(h), COARSE_PACKING // PACKING) for outlet in self.out]


def _plane(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype)[:, None, None, None].expand(-1, 1, *like.shape[-2:])


class VideoDenoiser(nn.Module):
    """x̂₀ of noisy latents `(B, 3, F, H, W)`: pixels, as 4·pixel − 2.

    Fully convolutional in space and time: any number of frames, any height and width that are multiples of
    `config.stride`. Trained weights ship beside this file; a freshly built network is not zero.
    """

    def __init__(self, config: DenoiserConfig | None = None):
        super().__init__()
        self.config = config = config or DenoiserConfig()
        packed = 3 * PACKING**2
        inputs = [packed + 1] + [config.width] * (config.layers - 1)
        outputs = [config.width] * (config.layers - 1) + [packed]
        self.trunk = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, outputs, strict=True))
        self.mix = nn.ModuleDict({str(layer): _Mix(config.width) for layer in config.mix_after})
        self.helper = _Helper(config)

    def forward(self, x_t: Tensor, phase: Tensor) -> Tensor:
        """Estimate x₀.

        Args:
            x_t: noisy latents `(B, 3, F, H, W)`, `cos(π/2·phase)·x₀ + sin(π/2·phase)·ε`.
            phase: noise level in [0, 1] per batch element `(B,)`.

        Returns:
            x̂₀, shaped as `x_t`.
        """
        batch, _, frames, _, _ = x_t.shape
        angle = (phase.float() * (math.pi / 2)).repeat_interleave(frames)
        alpha = angle.cos().clamp(min=LOWEST_ALPHA)
        spread = PIXEL_GAIN * angle.sin() / alpha
        whole = x_t.transpose(1, 2).flatten(0, 1)
        pixels = whole * (PIXEL_GAIN / alpha).to(whole.dtype)[:, None, None, None] + 0.5
        help_ = dict(
            zip(self.config.help_after, self.helper(pixels, spread, angle * (2 / math.pi), frames), strict=True)
        )
        weight = (spread**2 / (spread**2 + (self.config.gate / 255) ** 2).clamp_min(1e-12)).to(pixels.dtype)
        weight = weight[:, None, None, None]
        h = F.pixel_unshuffle(pixels, PACKING)
        h = torch.cat([h, _plane(spread, h)], dim=1)
        for layer, convolution in enumerate(self.trunk[:-1], start=1):
            h = F.relu(convolution(h), inplace=True)
            if str(layer) in self.mix:
                h = self.mix[str(layer)](h, frames, weight)
            if layer in help_:
                h = h + help_[layer] * weight.to(h.dtype)
        # The last layer writes pixels: half precision would leave steps of 1/256 in them.
        last = cast(nn.Conv2d, self.trunk[-1])
        with torch.autocast(h.device.type, enabled=False):
            clean = F.pixel_shuffle(last(h.to(last.weight.dtype)), PACKING)
        trust = (spread**2 / (spread**2 + OWN_ERROR**2)).to(clean.dtype)[:, None, None, None]
        clean = torch.lerp(pixels.to(clean.dtype), clean, trust)
        return ((clean - 0.5) / PIXEL_GAIN).unflatten(0, (batch, frames)).transpose(1, 2)
