"""What calibration does under ModelScope's two solvers, at `σ·x_t` and at `x_t`, on the embedded model.

python tools/measure_solvers.py [clip.mp4 …] [--json out.json]     (one thread, minutes; needs modelscope and torchsde)

The solver code is ModelScope's own; the network and the noise schedule are the embedded refiner's. The start has the
noise level ModelScope starts at (σ = 0.972).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from modelscope_solvers import load_solver_code
from torch import Tensor

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.adapters.modelscope.solving import CalibrateAt, estimate_x0, level_at, run_solver
from nc_refiner.adapters.runtime import drawing_from
from nc_refiner.assets import demo_clip
from nc_refiner.calibration import NoiseCalibration, calibrate
from nc_refiner.evaluation.metrics import mse, mse_low, spatial_frequency, ssim
from nc_refiner.holding import Hold
from nc_refiner.video import read_clip

FRAMES, HEIGHT = 4, 64
STARTS = (849,)
SOLVERS = {"dpmpp_2m_sde": 30, "heun": 50}
MODES: tuple[CalibrateAt, ...] = ("network_input", "x_t")
ITERATIONS = (1, 3)
HOLDS = (0.5, 1.0)
"""Pulls while denoising, at N = 3 and `x_t`."""
Arm = tuple[str, int, float]
ARMS: tuple[Arm, ...] = (
    ("none", 0, 0.0),
    *((at, n, 0.0) for at in MODES for n in ITERATIONS),
    *(("x_t", 3, hold) for hold in HOLDS),
)


def embedded_diffusion(adapter: EmbeddedRefiner) -> Any:
    """ModelScope's diffusion object over the embedded refiner's schedule (v-prediction, 1000 timesteps)."""
    sigmas = torch.tensor([adapter.noise_level(torch.tensor(t)).sigma for t in range(1000)])
    return load_solver_code().diffusion_sdedit.GaussianDiffusion_SDEdit(sigmas=sigmas, prediction_type="v")


def generated() -> Tensor:
    """A drifting texture `(4, 3, 64, 64)`: sharp edges, fine detail, pure translation."""
    rows, columns = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(HEIGHT)), indexing="ij")
    frames = []
    for index in range(FRAMES):
        x, y = columns + 2 * index, rows + index
        checks = ((x // 20 + y // 20) % 2) * 0.5
        frames.append(
            torch.stack(
                [0.2 + checks, 0.5 + 0.25 * torch.sin(x / 3) * torch.cos(y / 5), 0.3 + 0.4 * torch.sin((x + y) / 17)]
            )
        )
    return torch.stack(frames).clamp(0, 1)


def load(path: Path) -> Tensor:
    """The first frames of a clip at 64 rows, cut to the multiples of 8 the embedded refiner takes."""
    frames = read_clip(path, max_frames=FRAMES, height=HEIGHT).frames
    return frames[..., : frames.shape[-2] // 16 * 16, : frames.shape[-1] // 16 * 16]


def refine(
    adapter: EmbeddedRefiner,
    diffusion: Any,
    frames: Tensor,
    start: int,
    solver: str,
    at: CalibrateAt,
    iterations: int,
    hold: float = 0.0,
) -> dict[str, float]:
    """One refinement; what it lost and kept of its input."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        return adapter.predict_v(x, t.flatten()[0])

    reference = adapter.encode(frames)
    generator = torch.Generator().manual_seed(5)
    level = level_at(diffusion, start)
    x_t = level.add_noise(reference, torch.randn(reference.shape, generator=generator))
    config = NoiseCalibration(iterations=iterations, reuse_prediction=False, hold=hold)
    done = calibrate(
        x_t, reference, level, lambda latents: estimate_x0(diffusion, latents, start, at, network, {}), config
    )
    options = {
        "solver": solver, "steps": SOLVERS[solver], "t_max": start, "t_min": 0, "discretization": "trailing",
        "model_kwargs": {},
    }  # fmt: skip
    with torch.no_grad(), drawing_from(generator):
        output = adapter.decode(
            run_solver(diffusion, done.x_t, network, options, hold=Hold.of(reference, level, config))
        )
    # The loss that counts is at the solver's own first input, whatever the calibration looked at.
    first = estimate_x0(diffusion, done.x_t, start, "network_input", network, {})
    return {
        "loss": float((first - reference).norm() / reference.norm()),
        "mse": float(mse(frames, output).mean()),
        "mse_low": float(mse_low(frames, output).mean()),
        "ssim": float(ssim(frames, output).mean()),
        "sf": float(spatial_frequency(output).mean() / spatial_frequency(frames).mean()),
    }


def measure(clips: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Every start, solver, place and N over every clip."""
    adapter = EmbeddedRefiner(device="cpu")
    diffusion = embedded_diffusion(adapter)
    rows = []
    for name, frames in clips.items():
        for start in STARTS:
            for solver in SOLVERS:
                for at, n, hold in ARMS:
                    place = MODES[0] if at == "none" else at
                    found = refine(adapter, diffusion, frames, start, solver, place, n, hold)  # type: ignore[arg-type]
                    facts = {"clip": name, "start": start, "solver": solver, "at": at, "iterations": n, "hold": hold}
                    rows.append({**facts, **found})
    return rows


def summarise(rows: list[dict[str, Any]]) -> str:
    """A markdown table: means over the clips, and on how many of them it is nearer to the input than N = 0 is."""
    lines = []
    for start in STARTS:
        for solver in SOLVERS:
            chosen = [row for row in rows if row["start"] == start and row["solver"] == solver]
            plain = {row["clip"]: row for row in chosen if row["iterations"] == 0}
            for at, n, hold in ARMS:
                group = [row for row in chosen if (row["at"], row["iterations"], row["hold"]) == (at, n, hold)]
                means = {k: statistics.fmean(row[k] for row in group) for k in ("loss", "mse", "mse_low", "ssim", "sf")}
                nearer = sum(row["mse"] < plain[row["clip"]]["mse"] for row in group)
                name = f"N = {n}" + (f" at {at}" if n else "") + (f", hold {hold:g}" if hold else "")
                lines.append(
                    [
                        str(start), solver, name, f"{means['loss']:.3f}",
                        f"{100 * means['mse']:.3f}", f"{100 * means['mse_low']:.3f}", f"{means['ssim']:.3f}",
                        f"{means['sf']:.2f}", "–" if n == 0 else f"{nearer} of {len(group)}",
                    ]
                )  # fmt: skip
    heads = ["start", "solver", "calibration", "loss", "MSE ×10⁻²", "MSE_low ×10⁻²", "SSIM", "SF ratio", "nearer"]
    rule = ["---"] * len(heads)
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rule, *lines])


def main() -> None:
    """Measure the named clips, the demo clip and a generated one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--json", type=Path, help="also write every single figure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = {"demo": load(demo_clip()[0]), "generated": generated()}
    clips |= {path.stem: load(path) for path in arguments.clips}
    rows = measure(clips)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{len(clips)} clips: {', '.join(f'{k} {tuple(v.shape)}' for k, v in clips.items())}\n")
    print(summarise(rows))


if __name__ == "__main__":
    main()
