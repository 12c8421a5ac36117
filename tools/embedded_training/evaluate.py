"""The honest target: degraded clips, refined by SDEdit and by N = 1, 2, 3, held against the originals."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from nc_refiner import CalibratedRefiner, VideoClip
from nc_refiner.assets import demo_clip
from nc_refiner.evaluation import mse, psnr, spatial_frequency, ssim
from nc_refiner.video import FrameReader, read_clip

from .degrade import degrade

log = logging.getLogger(__name__)

ITERATIONS = (0, 1, 2, 3)


@dataclass(frozen=True)
class EvaluationClip:
    """An original the model never saw, and what a refiner gets of it; `(F, 3, H, W)` in [0, 1]."""

    name: str
    original: Tensor
    degraded: Tensor


def clips_in(folders: Iterable[Path], frames: int, height: int) -> Iterator[EvaluationClip]:
    """The bundled demo clip, then the first `frames` frames of every mp4 in `folders`, cropped to multiples of 16."""
    degraded, original = demo_clip()
    yield EvaluationClip("demo", *(read_clip(path, max_frames=frames).frames for path in (original, degraded)))
    for folder in folders:
        for path in sorted(folder.glob("*.mp4")):
            with FrameReader(path) as source:
                native = source.height
            # Originals are shrunk to at most half: what is left is sharp, whatever the source was.
            wanted = min(height, native // 2)
            whole = read_clip(path, max_frames=frames, height=wanted).frames
            rows, columns = whole.shape[2] // 16 * 16, whole.shape[3] // 16 * 16
            cropped = whole[..., :rows, :columns].contiguous()
            yield EvaluationClip(path.stem, cropped, degrade(cropped))


def _mean(values: Tensor) -> float:
    return float(values.mean())


def evaluate_clip(refiner: CalibratedRefiner, clip: EvaluationClip, strength: float, seed: int = 0) -> dict[str, Any]:
    """All figures of one clip: `input` (the degraded clip itself) and one entry per N."""
    original, degraded = clip.original, clip.degraded
    row: dict[str, Any] = {
        "clip": clip.name,
        "original_sf": _mean(spatial_frequency(original)),
        "input": {"sf": _mean(spatial_frequency(degraded)), "psnr_to_original": _mean(psnr(original, degraded))},
    }
    for iterations in ITERATIONS:
        result = refiner.with_calibration(iterations=iterations)(VideoClip(degraded), seed=seed, strength=strength)
        output = result.clip.frames
        row[f"N={iterations}"] = {
            "mse": _mean(mse(degraded, output)),
            "ssim": _mean(ssim(degraded, output)),
            "psnr_to_original": _mean(psnr(original, output)),
            "sf": _mean(spatial_frequency(output)),
            "content_loss": list(result.trace.content_loss),
        }
    return row


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The target's clauses over all clips: shares of clips that meet each, and the averages behind them."""
    count = len(rows)

    def share(condition: Any) -> float:
        return sum(bool(condition(row)) for row in rows) / count

    def mean(*path: str) -> float:
        values = []
        for row in rows:
            value: Any = row
            for key in path:
                value = value[key]
            values.append(value)
        return statistics.fmean(values)

    def better(name: str, key: str, sign: int) -> float:
        return share(lambda row: sign * row[name][key] > sign * row["N=0"][key])

    found: dict[str, Any] = {
        "clips": count,
        "sdedit_sf_over_original": statistics.fmean(row["N=0"]["sf"] / row["original_sf"] for row in rows),
        "sdedit_sf_within_25_percent": share(lambda row: abs(row["N=0"]["sf"] / row["original_sf"] - 1) <= 0.25),
        "sdedit_psnr_drop_db": mean("input", "psnr_to_original") - mean("N=0", "psnr_to_original"),
        "sdedit_psnr_drop_within_3_db": share(
            lambda row: row["input"]["psnr_to_original"] - row["N=0"]["psnr_to_original"] <= 3
        ),
        "input_sf_over_original": statistics.fmean(row["input"]["sf"] / row["original_sf"] for row in rows),
        "input_psnr": mean("input", "psnr_to_original"),
        "content_loss_falls": share(lambda row: _falls(row["N=3"]["content_loss"])),
        "content_loss": [statistics.fmean(row["N=3"]["content_loss"][i] for row in rows) for i in range(3)],
    }
    for iterations in ITERATIONS:
        name = f"N={iterations}"
        found[name] = {
            "mse": mean(name, "mse"),
            "ssim": mean(name, "ssim"),
            "psnr_to_original": mean(name, "psnr_to_original"),
            "sf_over_original": statistics.fmean(row[name]["sf"] / row["original_sf"] for row in rows),
        }
        if iterations:
            found[name] |= {
                "mse_better": better(name, "mse", -1),
                "ssim_better": better(name, "ssim", 1),
                "psnr_better": better(name, "psnr_to_original", 1),
                "sf_above_input": share(lambda row, name=name: row[name]["sf"] > row["input"]["sf"]),
            }
    return found


def _falls(losses: list[float]) -> bool:
    return all(a > b for a, b in pairwise(losses))


def evaluate(
    refiner: CalibratedRefiner, clips: list[EvaluationClip], strengths: Iterable[float]
) -> dict[str, dict[str, Any]]:
    """`verdict` per strength, with the rows behind it."""
    found = {}
    for strength in strengths:
        rows = []
        for clip in clips:
            rows.append(evaluate_clip(refiner, clip, strength))
            log.info("strength %.2f %s %s", strength, clip.name, _line(rows[-1]))
        found[f"{strength:g}"] = {"summary": verdict(rows), "clips": rows}
        log.info("strength %.2f: %s", strength, found[f"{strength:g}"]["summary"])
    return found


def _line(row: dict[str, Any]) -> str:
    parts = [f"sf {row['original_sf']:.4f} in {row['input']['sf']:.4f} ({row['input']['psnr_to_original']:.2f} dB)"]
    parts += [
        f"{name} {row[name]['sf']:.4f} ({row[name]['psnr_to_original']:.2f} dB)" for name in ("N=0", "N=1", "N=3")
    ]
    return "  ".join(parts)
