"""Per-frame metrics over clips `(F, 3, H, W)`, RGB in [0, 1]; each returns `(F,)` float64.

Pure functions: average over frames for a clip, over clips for a set. All work in float64 except SSIM (float32).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..frequency import LowPass

__all__ = ["checked_frames", "checked_pair", "luma", "mse", "mse_low", "psnr", "spatial_frequency", "ssim"]

SSIM_WINDOW = 11


def checked_frames(name: str, frames: Tensor) -> Tensor:
    """`frames` in float64; ValueError unless `(F, 3, H, W)` with a frame and finite everywhere."""
    if frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape) == 0:
        raise ValueError(f"{name} must be (F, 3, H, W) with at least one frame and pixel, found {tuple(frames.shape)}")
    if not bool(torch.isfinite(frames).all()):
        raise ValueError(f"{name} holds NaN or infinite values; metrics need finite pixels in [0, 1]")
    # Bytes wrap when they are subtracted.
    return frames.double()


def checked_pair(reference: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64; ValueError as `checked_frames`, or where their shapes differ."""
    pair = checked_frames("reference", reference), checked_frames("output", output)
    if reference.shape != output.shape:
        raise ValueError(
            f"reference is {tuple(reference.shape)} and output {tuple(output.shape)}; align frames and size first"
        )
    return pair


def luma(frames: Tensor) -> Tensor:
    """BT.601 luma `(F, 1, H, W)` of RGB frames `(F, 3, H, W)`."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=frames.dtype, device=frames.device)
    return (frames * weights[:, None, None]).sum(dim=1, keepdim=True)


def mse(reference: Tensor, output: Tensor) -> Tensor:
    """Mean squared error over RGB pixels; 0 for equal frames, at most 1. ValueError on mismatch or NaN.

    >>> mse(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)).item()
    0.25
    """
    a, b = checked_pair(reference, output)
    return (a - b).square().mean(dim=(1, 2, 3))


def mse_low(reference: Tensor, output: Tensor, cutoff: float = 0.5) -> Tensor:
    """Mean squared error of the part below `cutoff` (ν, fraction of Nyquist; the paper's MSE_low has ν = 0.5)."""
    a, b = checked_pair(reference, output)
    return LowPass(a.shape[-2], a.shape[-1], cutoff)(a - b).square().mean(dim=(1, 2, 3))


def psnr(reference: Tensor, output: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1; infinite for equal frames."""
    return -10 * mse(reference, output).log10()


def ssim(reference: Tensor, output: Tensor) -> Tensor:
    """Structural similarity of BT.601 luma (Wang et al. 2004): Gaussian 11×11, σ = 1.5, data range 1, valid border.

    Raises:
        ValueError: frames smaller than 11×11.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = checked_pair(reference, output)
    if min(a.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW}×{SSIM_WINDOW}, found {tuple(a.shape[-2:])}")
    _, everywhere = structural_similarity_index_measure(
        luma(b).float(), luma(a).float(), sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    # The library mirrors the picture at its border; only where the whole window fits is the value Wang's.
    edge = SSIM_WINDOW // 2
    return everywhere[..., edge:-edge, edge:-edge].double().mean(dim=(1, 2, 3))


def spatial_frequency(frames: Tensor) -> Tensor:
    """√(RF² + CF²) of luma: root of the mean squared horizontal plus vertical difference (Eskicioglu & Fisher 1995).

    It rewards noise as much as detail: read it beside a fidelity metric and the reference's own value.
    """
    y = luma(checked_frames("frames", frames))
    total = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for axis in (-1, -2):
        if y.shape[axis] > 1:
            total = total + y.diff(dim=axis).square().mean(dim=(1, 2, 3))
    return total.sqrt()
