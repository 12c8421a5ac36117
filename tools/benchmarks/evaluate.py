"""What `evaluate` costs a frame, metric by metric, and its SSIM beside torchmetrics' and ffmpeg's."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nc_refiner.evaluation import ssim
from nc_refiner.evaluation.catalogue import DEFAULT
from nc_refiner.evaluation.meters import Models, PairMeter
from nc_refiner.video import FrameReader, FrameWriter

from .tables import table
from .timing import interleaved

__all__ = ["add_arguments", "measure_evaluate", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this sub-command."""
    parser.add_argument("--height", type=int, default=640)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _clips(frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Something that moves, and the same with a little noise."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.nn.functional.interpolate(
        torch.rand((1, 3, height // 8, width // 4), generator=generator), size=(height, 2 * width), mode="bicubic"
    ).clamp(0, 1)
    moving = torch.cat([wide[..., 3 * i : 3 * i + width] for i in range(frames)])
    return moving, (moving + 0.02 * torch.randn(moving.shape, generator=generator)).clamp(0, 1)


def _metered(names: tuple[str, ...], reference: Tensor, output: Tensor) -> None:
    meter = PairMeter(names, len(output), output.shape[-2], output.shape[-1], Models())
    for before, after in zip(reference.split(4), output.split(4), strict=True):
        meter.add(before, after)
    meter.finish()


def _torchmetrics() -> Callable[[Tensor, Tensor], Any] | None:
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError:
        return None
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]

    def measure(reference: Tensor, output: Tensor) -> Any:
        a, b = ((frames * weights).sum(dim=1, keepdim=True) for frames in (reference, output))
        return structural_similarity_index_measure(b, a, sigma=1.5, data_range=1.0, reduction="none")

    return measure


def _ffmpeg(folder: Path, reference: Tensor, output: Tensor) -> dict[str, float] | None:
    """ffmpeg's ssim filter over two files, decoding included; it has windows and an averaging of its own."""
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    paths = []
    for name, frames in (("a.mp4", reference), ("b.mp4", output)):
        with FrameWriter(folder / name, 8) as writer:
            writer.write(frames)
        paths.append(folder / name)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-threads", "1"]
    command += ["-i", str(paths[1]), "-i", str(paths[0]), "-lavfi", "ssim", "-f", "null", "-"]
    start = time.perf_counter()
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    found = re.search(r"SSIM Y:([\d.]+)", ran.stderr)
    with FrameReader(paths[0], exact_colour=True) as a, FrameReader(paths[1], exact_colour=True) as b:
        ours = float(ssim(torch.stack(list(a)), torch.stack(list(b))).mean())
    return {"seconds": seconds / len(output), "ssim": float(found[1]) if found else float("nan"), "ours": ours}


def measure_evaluate(frames: int, height: int, width: int, repeats: int) -> dict[str, Any]:
    """CPU seconds a frame of every metric alone, of all together and of other SSIMs, interleaved in one run."""
    reference, output = _clips(frames, height, width)
    candidates: dict[str, Callable[[], Any]] = {name: partial(_metered, (name,), reference, output) for name in DEFAULT}
    candidates["all together"] = partial(_metered, tuple(DEFAULT), reference, output)
    other = _torchmetrics()
    if other is not None:
        candidates["SSIM by torchmetrics"] = partial(other, reference, output)
    times = interleaved(candidates, repeats)
    found: dict[str, Any] = {"cpu_seconds_a_frame": {n: t.cpu_ms / 1000 / frames for n, t in times.items()}}
    if other is not None:
        # Its border is mirrored, ours is left out.
        found["ssim_by_torchmetrics"] = float(other(reference, output).mean())
    found["ssim"] = float(ssim(reference, output).mean())
    with tempfile.TemporaryDirectory() as folder:
        found["ffmpeg"] = _ffmpeg(Path(folder), reference, output)
    return found


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    torch.set_num_threads(arguments.threads)
    found = measure_evaluate(arguments.frames, arguments.height, arguments.width, arguments.repeats)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    size = f"{arguments.frames} frames of {arguments.height}×{arguments.width}, {arguments.threads} thread(s)"
    rows = [[name, f"{value:.3f}"] for name, value in found["cpu_seconds_a_frame"].items()]
    sys.stdout.write(table(f"evaluate: CPU seconds a frame; {size}", ["metric", "s"], rows))
    rows = [["ours", f"{found['ssim']:.6f}"]]
    if "ssim_by_torchmetrics" in found:
        rows.append(["torchmetrics (border mirrored)", f"{found['ssim_by_torchmetrics']:.6f}"])
    if found["ffmpeg"] is not None:
        one = found["ffmpeg"]
        rows.append([f"ffmpeg, luma (ours on the same files {one['ours']:.4f})", f"{one['ssim']:.6f}"])
        rows.append(["ffmpeg, seconds a frame, decoding included", f"{one['seconds']:.4f}"])
    sys.stdout.write(table("SSIM", ["", ""], rows))
    return 0
