"""Wall clock and peak memory of N = 1, 2, 3 against stock on MS-Vid2Vid-XL's real network, with random weights.

- `python tools/benchmark_modelscope.py`: 32 frames of 720×1280 in fp16, both solvers at the host's steps; wants a GPU
- `--solver dpmpp_2m_sde --steps 10 --frames 16 --height 464 --width 832`: less of it
- `--tiny`: the same code and the same classes with few weights, on the CPU

Needs modelscope, torchsde and einops; neither a checkpoint nor the rest of the host's stack.
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
from modelscope_solvers import load_network_code, load_solver_code  # noqa: E402

from nc_refiner.adapters.modelscope.adapter import DEFAULT_STEPS, ModelScopeAdapter, check_size  # noqa: E402

TINY = {"dim": 32, "dim_mult": [1, 1, 1, 1], "num_heads": 2, "head_dim": 16, "num_res_blocks": 1}
TINY_STEPS = 4
FULL_SIZE, TINY_SIZE = (32, 720, 1280), (2, 80, 64)
"""Frames, height, width."""
TEXT = (1, 77, 1024)
MAX_FRAMES = 32


def build(device: torch.device, dtype: torch.dtype, **arguments: Any) -> SimpleNamespace:
    """What `ModelScopeAdapter` needs of a pipeline, around the host's network and diffusion alone.

    Args:
        device, dtype: of the network.
        arguments: of `Vid2VidSDUNet`; none is the real size.

    Raises:
        ImportError: modelscope, torchsde or einops is missing.
    """
    solvers = load_solver_code()
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        network = load_network_code().Vid2VidSDUNet(**arguments)
        # It starts as zero, and the host's guidance rescale divides by the deviation of what the network says.
        torch.nn.init.normal_(network.out[-1].weight, std=0.02)
    sigmas = solvers.schedules_sdedit.noise_schedule(
        schedule="logsnr_cosine_interp", n=1000, zero_terminal_snr=True, scale_min=2.0, scale_max=4.0
    )

    def embed(text: str) -> Tensor:
        return torch.randn(TEXT, generator=torch.Generator().manual_seed(len(text))).to(device)

    model = SimpleNamespace(
        generator=network.to(dtype).eval().requires_grad_(False),
        diffusion=solvers.diffusion_sdedit.GaussianDiffusion_SDEdit(sigmas=sigmas, prediction_type="v"),
        autoencoder=None,
        clip_encoder=embed,
        positive_prompt=", cinematic",
        negative_y=embed(""),
        cfg=SimpleNamespace(max_frames=MAX_FRAMES, solver_mode="fast", mean=[0.5] * 3, std=[0.5] * 3),
        device=device,
    )
    return SimpleNamespace(model=model)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when measured, 2 on bad input, a missing package, or where a GPU is wanted and there is none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="few weights and pixels, on the CPU")
    parser.add_argument("--solver", choices=sorted(DEFAULT_STEPS), help="one of the two")
    parser.add_argument("--steps", type=int, help="instead of the host's own")
    parser.add_argument("--strength", type=float, default=0.6)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--repeats", type=int, default=1, help="rounds; the median is told")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    given = parser.parse_args(arguments)
    if not given.tiny and not torch.cuda.is_available():
        sys.stderr.write("benchmark_modelscope: the real network wants a GPU and there is none here; try --tiny\n")
        return 2
    device = torch.device("cpu" if given.tiny else "cuda")
    dtype = torch.float32 if given.tiny else torch.float16
    usual = TINY_SIZE if given.tiny else FULL_SIZE
    frames, height, width = (
        own if value is None else value
        for value, own in zip((given.frames, given.height, given.width), usual, strict=True)
    )
    rows = []
    try:
        if given.repeats < 1:
            raise ValueError(f"--repeats is {given.repeats}; it must be at least 1")
        check_size(frames, height, width)
        pipe = build(device, dtype, **(TINY if given.tiny else {}))
        for solver in [given.solver] if given.solver else list(DEFAULT_STEPS):
            adapter = ModelScopeAdapter(pipe, solver=solver)
            steps = given.steps if given.steps is not None else TINY_STEPS if given.tiny else DEFAULT_STEPS[solver]
            found = measure_adapter(
                adapter, (1, 4, frames, height // 8, width // 8), steps, given.strength, given.repeats, solver=solver
            )
            sys.stdout.write(lines(found, "solver"))
            rows += found
    except (ValueError, ImportError) as error:
        sys.stderr.write(f"benchmark_modelscope: {error}\n")
        return 2
    if given.json:
        weights = sum(parameter.numel() for parameter in pipe.model.generator.parameters())
        facts = {"dtype": str(dtype), "parameters": weights, "frames": frames, "height": height, "width": width}
        write_json(given.json, device, rows, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
