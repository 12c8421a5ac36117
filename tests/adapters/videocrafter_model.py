"""A small real model with the attributes of VideoCrafter's `LatentDiffusion`, and its way of sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Posterior:
    def __init__(self, mean: Tensor):
        self.mean = mean

    def mode(self) -> Tensor:
        return self.mean


class FirstStage(nn.Module):
    """A linear autoencoder of 2×2 patches."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 12, 2, stride=2)
        self.up = nn.ConvTranspose2d(12, 3, 2, stride=2)

    def encode(self, pixels: Tensor) -> Posterior:
        return Posterior(self.down(pixels))

    def decode(self, latents: Tensor) -> Tensor:
        return self.up(latents)


class Network(nn.Module):
    channel_mult = (1, 2)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(12, 16, 3, padding=1)
        self.inside = nn.Linear(8, 16)
        self.last = nn.Conv3d(16, 12, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, fps: Tensor) -> Tensor:
        time = torch.stack([t.float() / 1000, fps.float() / 30], dim=1).repeat(1, 4)
        inside = self.inside(context.mean(dim=1) + time)
        return self.last(torch.tanh(self.first(x) + inside[:, :, None, None, None]))


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.diffusion_model = Network()

    def forward(self, x: Tensor, t: Tensor, c_crossattn: list[Tensor], fps: Tensor) -> Tensor:
        return self.diffusion_model(x, t, torch.cat(c_crossattn, dim=1), fps)


class SmallLatentDiffusion(nn.Module):
    def __init__(self, parameterization: str = "eps", use_scale: bool = False, image: bool = False):
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        bars = (1 - betas).cumprod(0)
        self.register_buffer("alphas_cumprod", bars.float())
        self.register_buffer("scale_arr", torch.cat([torch.linspace(1, 0.7, 400), torch.full((1000,), 0.7)]))
        self.num_timesteps, self.use_scale, self.parameterization = 1000, use_scale, parameterization
        self.temporal_length, self.scale_factor, self.num_downs, self.uncond_type = 4, 0.5, 1, "empty_seq"
        self.first_stage_model, self.model = FirstStage(), Wrapper()
        self.words = nn.Embedding(256, 8)
        if image:
            self.embedder = nn.Linear(3, 8)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for parameter in self.parameters():
                parameter.data.normal_(0, 0.15)

    def get_learned_conditioning(self, prompts: list[str]) -> Tensor:
        padded = [list(prompt.encode()[:7]) + [0] * (8 - len(prompt.encode()[:7])) for prompt in prompts]
        return self.words(torch.tensor(padded))

    def get_image_embeds(self, images: Tensor) -> Tensor:
        return self.embedder(images.mean(dim=(2, 3)))[:, None]

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        noise = torch.randn_like(x_start) if noise is None else noise
        bar = self.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        scale = self.scale_arr[t].view(-1, 1, 1, 1, 1) if self.use_scale else 1.0
        return bar.sqrt() * scale * x_start + (1 - bar).sqrt() * noise

    def apply_model(self, x: Tensor, t: Tensor, cond: dict, **_) -> Tensor:
        return self.model(x, t, **cond)

    def decode_first_stage_2DAE(self, z: Tensor) -> Tensor:
        return torch.stack(
            [self.first_stage_model.decode(z[:, :, i] / self.scale_factor) for i in range(z.shape[2])], 2
        )
