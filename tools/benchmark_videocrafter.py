"""Wall clock and peak memory of N = 1, 2, 3 against stock on VideoCrafter's real network, with random weights.

- `python tools/benchmark_videocrafter.py --root path/to/clone`: the 512 text-to-video network, fp16; wants a GPU
- `--config configs/inference_t2v_1024_v1.0.yaml --height 576 --width 1024`: another
- `--dry-run`: the same code with a network of a few weights, on the CPU, without a clone
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.versus_stock import lines, measure_adapter, write_json  # noqa: E402

from nc_refiner.adapters.videocrafter import VideoCrafterAdapter  # noqa: E402
from nc_refiner.adapters.videocrafter.adapter import narrow  # noqa: E402
from nc_refiner.adapters.videocrafter.checkout import build_network  # noqa: E402


class _TinyNetwork(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, fps: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


class _Timed(torch.nn.Module):
    """What the adapter needs of a model, around a network alone: no text encoder, no autoencoder."""

    parameterization, uncond_type, use_scale = "eps", "empty_seq", True
    num_timesteps, scale_factor = 1000, 0.18215
    alphas_cumprod: Tensor

    def __init__(self, network: torch.nn.Module, frames: int, width: int):
        super().__init__()
        bars = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
        self.register_buffer("alphas_cumprod", bars.float())
        self.register_buffer("scale_arr", torch.cat([torch.linspace(1, 0.7, 400), torch.full((1000,), 0.7)]))
        self.model = torch.nn.ModuleDict({"diffusion_model": network})
        self.temporal_length, self.width = frames, width
        self.first_stage_model = SimpleNamespace()

    def q_sample(self, *_: Any, **__: Any) -> Tensor:
        raise NotImplementedError("latents are noised by the adapter")

    def decode_first_stage_2DAE(self, latents: Tensor) -> Tensor:
        raise NotImplementedError("only the network is timed")

    def get_learned_conditioning(self, prompts: list[str]) -> Tensor:
        generator = torch.Generator().manual_seed(len(prompts[0]))
        return torch.randn((1, 77, self.width), generator=generator).to(self.alphas_cumprod.device)

    def apply_model(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        output: Tensor = self.model["diffusion_model"](x, t, context=cond["c_crossattn"][0], fps=cond["fps"])
        return output


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when measured, 2 on bad input or where a GPU is wanted and there is none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="the VideoCrafter clone")
    parser.add_argument("--config", type=Path, default=Path("configs/inference_t2v_512_v2.0.yaml"))
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--strength", type=float, default=0.6)
    parser.add_argument("--dry-run", action="store_true", help="a few weights, on the CPU")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    given = parser.parse_args(arguments)
    if not given.dry_run and (given.root is None or not torch.cuda.is_available()):
        sys.stderr.write("this wants --root and a GPU; try --dry-run\n")
        return 2
    device = torch.device("cpu" if given.dry_run else "cuda")
    dtype = torch.float32 if given.dry_run else torch.float16
    try:
        network = _TinyNetwork() if given.dry_run else build_network(given.root, given.config)
        frames, width, side = (2, 8, (8, 8)) if given.dry_run else (16, 1024, (given.height // 8, given.width // 8))
        if dtype != torch.float32:
            narrow(network, dtype)  # the adapter would keep the wide one beside its copy
        adapter = VideoCrafterAdapter(_Timed(network, frames, width).to(device), dtype=dtype)
        rows = measure_adapter(adapter, (1, 4, frames, *side), given.steps, given.strength, repeats=1)
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.stderr.write(f"benchmark_videocrafter: {error}\n")
        return 2
    sys.stdout.write(lines(rows))
    if given.json:
        write_json(given.json, device, rows, dtype=str(dtype))
    return 0


if __name__ == "__main__":
    sys.exit(main())
