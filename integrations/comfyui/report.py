"""The latest run in words and as a small plot."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .calibrator import Run

__all__ = ["plot", "words"]

_SIZE = (480, 300)
_LEFT, _TOP, _RIGHT, _BOTTOM = 74, 44, 24, 54
_INK, _GRID, _LINE, _PAPER = (40, 40, 40), (222, 222, 222), (20, 104, 168), (255, 255, 255)


def words(run: Run | None) -> str:
    """One line per iteration, and what the start was."""
    if run is None:
        return "No sampler has run with this model yet."
    if run.level is None:
        return f"Nothing was calibrated: {run.note}."
    config, losses = run.config, run.content_loss
    guided = "as in the sampler" if config.guidance_scale is None else f"{config.guidance_scale:g}"
    more = len(losses) - run.saved
    lines = [
        f"Noise Calibration: {config.iterations} iterations, cutoff {config.cutoff:g}, guidance {guided}",
        f"Start of the sampler: {run.level.alpha:.4g} x latent + {run.level.sigma:.4g} x noise",
        f"Evaluations of the model: {more} more than without"
        + (", the sampler's first one was saved" if run.saved else ""),
        "Content loss of the model's estimate:",
    ]
    for index, loss in enumerate(losses):
        told = "before calibration" if index == 0 else f"after {index}, {loss / max(losses[0], 1e-12):.0%} of the first"
        lines.append(f"  {loss:.5f}  {told}")
    return "\n".join(lines)


def plot(run: Run | None) -> Tensor:
    """The content loss over the iterations as a picture: `(1, H, W, 3)`, float32 in [0, 1], as ComfyUI has images."""
    image = Image.new("RGB", _SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    small, title = ImageFont.load_default(16), ImageFont.load_default(18)
    losses = () if run is None else run.content_loss
    draw.text((_LEFT, 12), "Content loss of the estimate", _INK, font=title)
    if not losses:
        draw.text((_LEFT, _SIZE[1] // 2), "nothing was calibrated", _INK, font=small)
        return _tensor(image)
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM
    most = max(losses) * 1.1 or 1.0
    for part in range(5):
        level = _TOP + height * part // 4
        draw.line((_LEFT, level, _LEFT + width, level), _GRID)
        draw.text((_LEFT - 8, level), f"{most * (4 - part) / 4:.3g}", _INK, font=small, anchor="rm")
    steps = max(1, len(losses) - 1)
    points = [(_LEFT + width * i / steps, _TOP + height * (1 - loss / most)) for i, loss in enumerate(losses)]
    every = -(-len(losses) // 12)
    for index, (x, y) in enumerate(points):
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_LINE)
        if index % every == 0:
            draw.text((x, _TOP + height + 8), str(index), _INK, font=small, anchor="mt")
    if len(points) > 1:
        draw.line(points, _LINE, width=3)
    draw.text((_LEFT + width / 2, _SIZE[1] - 8), "iterations done", _INK, font=small, anchor="mb")
    return _tensor(image)


def _tensor(image: Image.Image) -> Tensor:
    width, height = image.size
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return values.reshape(1, height, width, 3).float() / 255
