"""A small video-to-video pipeline with ModelScope's protocol: schedule, guidance, two solvers and a VAE."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 0.18215


def waves(count: int) -> Tensor:
    """`(count, 3, 80, 64)` in [0, 1]: waves that move."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 80), torch.linspace(0, 1, 64), indexing="ij")
    return torch.stack(
        [torch.stack([0.5 + 0.4 * torch.sin(9 * x + i), y, 0.5 + 0.3 * torch.cos(7 * y - i)]) for i in range(count)]
    ).clamp(0, 1)


def _filled(module: nn.Module, seed: int) -> nn.Module:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / fan**0.5)
    return module.eval()


class Network(nn.Module):
    """v-prediction from latents `(B, 4, F, H, W)`, timesteps `(B,)` and text `(B, L, 8)`; counts its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.outlet = nn.Conv3d(4, 8, 3, padding=1), nn.Conv3d(8, 4, 3, padding=1)
        self.text, self.time = nn.Linear(8, 8), nn.Linear(2, 8)
        self.evaluations = 0

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 1
        angle = t.float()[:, None] / 300
        told = self.text(y.mean(dim=1)) + self.time(torch.cat([angle.sin(), angle.cos()], dim=1))
        return self.outlet(torch.tanh(self.inlet(x) + told[..., None, None, None])) - 0.3 * x


class Posterior:
    """A Gaussian whose samples come from the global generator, as the host's do."""

    def __init__(self, mean: Tensor):
        self.mean, self.std = mean, 0.05 + 0.1 * mean.abs()

    def sample(self) -> Tensor:
        return self.mean + self.std * torch.randn(self.mean.shape)


class Autoencoder(nn.Module):
    """8×8 pixels to four channels and back."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Conv2d(3, 4, 8, stride=8), nn.ConvTranspose2d(4, 3, 8, stride=8)

    def encode(self, frames: Tensor) -> Posterior:
        return Posterior(4 * self.into(frames))

    def decode(self, latents: Tensor) -> Tensor:
        return self.back(latents)


class Diffusion:
    """`diffuse`, `denoise` and `sample` over 1000 timesteps; `sample` starts from `σ·noise`, as the host's does."""

    def __init__(self) -> None:
        phase = torch.linspace(1e-3, 1, 1000)
        self.sigmas = torch.sin(phase * torch.pi / 2)
        self.alphas = torch.sqrt((1 - self.sigmas**2).clamp_min(0))
        self.num_timesteps = 1000

    def diffuse(self, x0: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        noise = torch.randn_like(x0) if noise is None else noise
        return self.alphas[t].view(-1, 1, 1, 1, 1) * x0 + self.sigmas[t].view(-1, 1, 1, 1, 1) * noise

    def denoise(
        self,
        xt: Tensor,
        t: Tensor,
        s: Any,
        model: Any,
        model_kwargs: Any,
        guide_scale: float | None = None,
        guide_rescale: float | None = None,
        clamp: float | None = None,
        percentile: float | None = None,
    ) -> tuple[Any, ...]:
        conditional = model(xt, t=t, **model_kwargs[0])
        v = conditional
        if guide_scale != 1:
            without = model(xt, t=t, **model_kwargs[1])
            v = without + guide_scale * (conditional - without)
            v = v * (guide_rescale * conditional.std() / v.std() + 1 - guide_rescale)
        alpha, sigma = self.alphas[t].view(-1, 1, 1, 1, 1), self.sigmas[t].view(-1, 1, 1, 1, 1)
        x0 = alpha * xt - sigma * v
        return None, None, None, x0, (xt - alpha * x0) / sigma

    def sample(
        self,
        noise: Tensor,
        model: Any,
        model_kwargs: Any,
        guide_scale: float | None = None,
        guide_rescale: float | None = None,
        solver: str = "heun",
        steps: int = 20,
        t_max: int = 999,
        t_min: int = 0,
        discretization: str = "trailing",
        **_: Any,
    ) -> Tensor:
        assert discretization == "trailing"
        stochastic = solver == "dpmpp_2m_sde"
        count = steps + stochastic
        timesteps = torch.arange(t_max, t_min - 1, -((t_max - t_min + 1) / count)).clamp(t_min, t_max).round().long()
        timesteps = timesteps[:-1] if stochastic else timesteps
        ratios = [float(self.sigmas[t] / self.alphas[t]) for t in timesteps] + [0.0]
        x = noise * float(self.sigmas[timesteps[0]])
        x = x * (1 + ratios[0] ** 2) ** 0.5

        def estimate(at: Tensor, index: int) -> Tensor:
            scaled = at / (1 + ratios[index] ** 2) ** 0.5
            t = timesteps[index].repeat(len(at))
            return self.denoise(scaled, t, None, model, model_kwargs, guide_scale, guide_rescale)[-2]

        for index in range(len(timesteps)):
            now, after = ratios[index], ratios[index + 1]
            x0 = estimate(x, index)
            slope = (x - x0) / now
            if after == 0:
                x = x0
            elif stochastic:
                up = min(after, (after**2 * (now**2 - after**2) / now**2) ** 0.5)
                x = x0 + slope * (after**2 - up**2) ** 0.5 + up * torch.randn_like(x)
            else:
                ahead = x + slope * (after - now)
                x = x + (slope + (ahead - estimate(ahead, index + 1)) / after) / 2 * (after - now)
        return x


class _TextEncoder:
    def __init__(self) -> None:
        self.table = torch.randn((256, 8), generator=torch.Generator().manual_seed(8))

    def __call__(self, text: str) -> Tensor:
        return self.table[list(text.encode()[:77]) or [0]][None]


class Model:
    """The parts of the host's model, and its `forward` but for the stretch to 720×1280."""

    def __init__(self, solver_mode: str = "fast"):
        self.device = torch.device("cpu")
        self.cfg = SimpleNamespace(solver_mode=solver_mode, max_frames=32, mean=[0.5] * 3, std=[0.5] * 3)
        self.diffusion, self.generator = Diffusion(), _filled(Network(), 1)
        self.autoencoder, self.clip_encoder = _filled(Autoencoder(), 2), _TextEncoder()
        self.positive_prompt = ", good"
        self.negative_y = self.clip_encoder("bad")

    @torch.no_grad()
    def __call__(self, input: dict[str, Any]) -> Tensor:
        posteriors = [self.autoencoder.encode(frame) for frame in input["video_data"].split(1)]
        latents = torch.cat([SCALE * posterior.sample() for posterior in posteriors]).transpose(0, 1)[None]
        t = torch.randint(599, 600, (1,))
        noised = self.diffusion.diffuse(latents, t, torch.randn_like(latents))
        fast = self.cfg.solver_mode == "fast"
        found = self.diffusion.sample(
            noise=noised,
            model=self.generator,
            model_kwargs=[{"y": input["y"]}, {"y": self.negative_y}],
            guide_scale=7.5,
            guide_rescale=0.2,
            solver="dpmpp_2m_sde" if fast else "heun",
            steps=30 if fast else 50,
            t_max=599,
            t_min=0,
            discretization="trailing",
        )
        frames = (1.0 / SCALE * found)[0].transpose(0, 1)
        decoded = [self.autoencoder.decode(part) for part in frames.chunk(max(1, len(frames) // 2))]
        return torch.cat(decoded).transpose(0, 1)[None]


class VideoToVideoPipeline:
    """Known as the host's by the name of its class and module alone."""

    __module__ = "modelscope.pipelines.multi_modal.video_to_video_pipeline"

    def __init__(self, solver_mode: str = "fast"):
        self.model = Model(solver_mode)
        self.models = [self.model]

    def forward(self, input: dict[str, Any]) -> dict[str, Any]:
        return {"video": self.model(input)}

    def _process_single(self, input: dict[str, Any], **params: Any) -> dict[str, Any]:
        return self.forward(input)


class MemoryEfficientCrossAttention(nn.Module):
    """The projections of the host's attention; what lies between them is under test."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dim_head, self.max_bs = 2, 4, 4
        self.to_q, self.to_k = nn.Linear(8, 8, bias=False), nn.Linear(6, 8, bias=False)
        self.to_v, self.to_out = nn.Linear(6, 8, bias=False), nn.Linear(8, 8)

    def expected(self, x: Tensor, context: Tensor) -> Tensor:
        """softmax(q·kᵀ/√d)·v in float64, head by head."""
        q, k, v = self.to_q(x).double(), self.to_k(context).double(), self.to_v(context).double()
        parts = [
            F.softmax(a @ b.transpose(1, 2) / 2.0, dim=-1) @ c
            for a, b, c in zip(q.split(4, 2), k.split(4, 2), v.split(4, 2), strict=True)
        ]
        return self.to_out(torch.cat(parts, dim=2).float())
