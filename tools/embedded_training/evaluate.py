"""The honest target: degraded clips, refined by SDEdit and by N = 1, 2, 3, held against the originals."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nc_refiner.adapters.base import RefinerAdapter
from nc_refiner.adapters.embedded.model import PIXEL_GAIN
from nc_refiner.assets import demo_clip
from nc_refiner.baselines import Setting, encoded, matched_sdedit
from nc_refiner.calibration import NoiseCalibration, calibration_steps, content_loss
from nc_refiner.evaluation import flicker, motion_of, mse, psnr, spatial_frequency, ssim, warping_error
from nc_refiner.evaluation.temporal import Motion
from nc_refiner.video import FrameReader, read_clip

from .degrade import MILD, Degradation, degrade

log = logging.getLogger(__name__)

ITERATIONS = 3
SIGMAS = (10, 25, 50, 75)
"""Noise levels of the one-step figures, of 255."""
Perceptual = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EvaluationClip:
    """An original the model never saw, and what a refiner gets of it; `(F, 3, H, W)` in [0, 1]."""

    name: str
    original: Tensor
    degraded: Tensor


def clips_in(
    folders: Iterable[Path], frames: int, height: int, how: Degradation = MILD, demo: bool = True
) -> Iterator[EvaluationClip]:
    """The bundled demo clip (unless `demo` is False), then the first `frames` frames of every mp4 in `folders`, cropped
    to multiples of 16 and degraded."""
    if demo:
        bundled, path = demo_clip()
        original = read_clip(path, max_frames=frames).frames
        shipped = read_clip(bundled, max_frames=frames).frames
        yield EvaluationClip("demo", original, shipped if how == MILD else degrade(original, how=how))
    for folder in folders:
        for path in sorted(folder.glob("*.mp4")):
            with FrameReader(path) as source:
                native = source.height
            # Originals are shrunk to at most half: what is left is sharp, whatever the source was.
            wanted = min(height, native // 2)
            whole = read_clip(path, max_frames=frames, height=wanted).frames
            rows, columns = whole.shape[2] // 16 * 16, whole.shape[3] // 16 * 16
            cropped = whole[..., :rows, :columns].contiguous()
            yield EvaluationClip(path.stem, cropped, degrade(cropped, how=how))


def _mean(values: Tensor) -> float:
    return float(values.mean())


@dataclass(frozen=True)
class Measure:
    """The figures of outputs of one clip, against its original and against the input that they were made from."""

    clip: EvaluationClip
    motion: Motion
    perceptual: Perceptual | None

    def __call__(self, output: Tensor) -> dict[str, float]:
        original, degraded = self.clip.original, self.clip.degraded
        found = {
            "mse": _mean(mse(degraded, output)),
            "ssim": _mean(ssim(degraded, output)),
            "psnr_to_original": _mean(psnr(original, output)),
            "ssim_to_original": _mean(ssim(original, output)),
            "sf": _mean(spatial_frequency(output)),
            "flicker": _mean(flicker(output)),
            "warping": _mean(warping_error(original, output, self.motion).nan_to_num()),
        }
        if self.perceptual is not None:
            found["lpips"] = _mean(self.perceptual(original, output))
        return found


def evaluate_clip(
    adapter: RefinerAdapter,
    clip: EvaluationClip,
    strength: float,
    *,
    steps: int = 30,
    cutoff: float = 1.0,
    seed: int = 0,
    iterations: Collection[int] = range(ITERATIONS + 1),
    matched: bool = False,
    perceptual: Perceptual | None = None,
) -> dict[str, Any]:
    """All figures of one clip.

    Args:
        iterations: which N of 0 … 3 to refine with; N = 3 is always among them.
        matched: also run SDEdit at the strength whose output has the content loss of N = 3.
        perceptual: LPIPS, where its weights are at hand.

    Returns:
        `original` and `input` (the undegraded and the degraded clip themselves), `N=0` … `N=3`, `matched`;
        `content_loss` of the estimates after 0 … N iterations.
    """
    measure = Measure(clip, motion_of(clip.original), perceptual)
    latents = encoded(adapter, clip.degraded, seed)
    timesteps = adapter.timesteps(steps, strength)
    setting = Setting.of(adapter, latents, timesteps, adapter.condition(), seed)

    def figures(refined: Tensor) -> dict[str, float]:
        return measure(latents.how.undo(adapter.decode(refined)))

    row: dict[str, Any] = {
        "clip": clip.name,
        "original": measure(clip.original),
        "input": measure(clip.degraded),
    }
    # One iteration more than N = 3 needs: its prediction is the one that denoising starts with.
    chain = calibration_steps(
        setting.x_t, setting.reference, setting.level, NoiseCalibration(iterations=ITERATIONS + 1, cutoff=cutoff)
    )
    x_t, losses = next(chain), []
    for done in range(ITERATIONS + 1):
        x0 = setting.predict_x0(x_t, timesteps.first)
        losses.append(content_loss(x0, setting.reference, cutoff))
        if done in iterations or done == ITERATIONS:
            refined = setting.denoise(x_t, x0)
            row[f"N={done}"] = figures(refined) | {"output_loss": content_loss(refined, setting.reference, cutoff)}
        if done < ITERATIONS:
            x_t = chain.send(x0)
    chain.close()
    row["content_loss"] = losses
    if matched:
        match = matched_sdedit(setting, row[f"N={ITERATIONS}"]["output_loss"], cutoff)
        row["matched"] = figures(match.latents) | {"output_loss": match.content_loss, "strength": match.strength}
    return row


def evaluate(
    adapter: RefinerAdapter, clips: list[EvaluationClip], strength: float, **options: Any
) -> list[dict[str, Any]]:
    """`evaluate_clip` for each clip."""
    rows = []
    for clip in clips:
        rows.append(evaluate_clip(adapter, clip, strength, **options))
        log.info("strength %.2f %s %s", strength, clip.name, _line(rows[-1]))
    return rows


def _line(row: dict[str, Any]) -> str:
    names = [name for name in ("input", "N=0", "N=1", "N=3") if name in row]
    words = [f"{name} {row[name]['psnr_to_original']:.2f} dB {row[name].get('lpips', math.nan):.3f}" for name in names]
    return "  ".join(words)


def one_step(networks: Mapping[str, nn.Module], clips: list[EvaluationClip]) -> dict[str, dict[str, dict[str, float]]]:
    """PSNR of x̂₀ from originals under noise, per network, clip and σ (of 255): what denoising alone is worth."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ("noisy", *networks)}
    for clip in clips:
        latents = (clip.original / PIXEL_GAIN - 0.5 / PIXEL_GAIN).transpose(0, 1)[None]
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        for sigma in SIGMAS:
            angle = math.atan(sigma / 255 / PIXEL_GAIN)
            x_t = math.cos(angle) * latents + math.sin(angle) * noise
            phase = torch.tensor([angle * 2 / math.pi])
            with torch.no_grad():
                estimates = {"noisy": x_t / math.cos(angle)} | {name: net(x_t, phase) for name, net in networks.items()}
            for name, estimate in estimates.items():
                error = ((estimate - latents) * PIXEL_GAIN).square().mean(dim=(0, 1, 3, 4))
                found[name].setdefault(clip.name, {})[str(sigma)] = float((-10 * error.log10()).mean())
    return found
