"""Run by `torchrun`: a tiny Wan in one process and under diffusers' context parallelism, and how far they differ.

torchrun --nproc-per-node 2 two_ranks.py OUTPUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from zoo_video import VIDEOS  # noqa: E402

import nc_refiner  # noqa: E402

NAMES = ("WanVideoToVideoPipeline", "WanVideoToVideoPipeline (flow matching)")
STEPS, STRENGTH = 4, 0.75


def run(
    name: str, parallel: bool, iterations: int | None, mode: str = "auto", seed: int = 5
) -> tuple[torch.Tensor, list[int]]:
    """Latents, and how many tokens the first block saw at each call; `iterations` None: the stock pipeline."""
    entry = VIDEOS[name]
    pipe = entry.build()
    tokens: list[int] = []
    pipe.transformer.blocks[1].register_forward_pre_hook(lambda block, given: tokens.append(given[0].shape[1]))
    if parallel:
        from diffusers import ContextParallelConfig

        pipe.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=dist.get_world_size()))
    if iterations is not None:
        pipe = nc_refiner.wrap(pipe, iterations=iterations, mode=mode)
    call: dict[str, Any] = {
        **entry.arguments(),
        "num_inference_steps": STEPS,
        "strength": STRENGTH,
        "output_type": "latent",
    }
    latents = pipe(**call, generator=torch.Generator().manual_seed(seed)).frames
    return latents, tokens


def between(latents: torch.Tensor) -> float:
    """How far the first two ranks are apart."""
    ranks = [torch.empty_like(latents) for _ in range(dist.get_world_size())]
    dist.all_gather(ranks, latents.contiguous())
    return float((ranks[0] - ranks[1]).abs().max())


def main(output: Path) -> None:
    """Compare, on every rank; the first writes the findings."""
    torch.set_num_threads(1)
    cases = [(name, n, "auto") for name in NAMES for n in (None, 0, 3)] + [(NAMES[0], 3, "replay")]
    alone = [run(name, False, n, mode) for name, n, mode in cases]
    dist.init_process_group("gloo")
    # diffusers takes a rank's device by its number among the accelerators, of which a CPU counts none.
    torch.accelerator.device_count = dist.get_world_size
    found = []
    for (name, n, mode), (expected, whole) in zip(cases, alone, strict=True):
        latents, tokens = run(name, True, n, mode)
        found.append(
            {
                "pipeline": name,
                "iterations": n,
                "mode": mode,
                "difference": float((latents - expected).abs().max()),
                "between_ranks": between(latents),
                "evaluations": len(tokens),
                "evaluations_alone": len(whole),
                "share_of_tokens": tokens[0] / whole[0],
            }
        )
    mixed, _ = run(NAMES[0], True, 3, seed=dist.get_rank())
    apart = between(mixed)
    changed = float((alone[0][0] - alone[2][0]).abs().max())
    if dist.get_rank() == 0:
        output.write_text(
            json.dumps({"cases": found, "calibration_changes": changed, "own_seeds": apart}), encoding="utf-8"
        )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
