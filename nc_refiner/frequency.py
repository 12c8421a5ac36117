"""Low-pass filters: in space the published box mask, moved to the real FFT; in time a cosine basis."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["LowPass", "TimeLowPass", "box_mask", "relative_norm"]


@lru_cache(maxsize=32)
def box_mask(height: int, width: int, cutoff: float) -> Tensor:
    """The authors' square box as a mask for `torch.fft.rfft2`: float64, `(height, width // 2 + 1)`, values 0, ½, 1.

    The published mask keeps, after an fftshift, rows `[c − k, c + k)` with `c = height // 2`, `k = int(c · cutoff)`,
    and columns alike. That half-open box `M` is not Hermitian (it keeps −k and drops +k), and the published code
    takes the real part of the inverse; the same real filter is the average of `M(f)` and `M(−f)` built here.

    Args:
        height, width: spatial size, each ≥ 1.
        cutoff: threshold frequency ν in [0, 1], as a fraction of Nyquist.

    >>> box_mask(4, 4, 0.0).sum().item()
    0.0
    >>> box_mask(4, 4, 1.0).min().item()
    1.0
    """
    kept_rows, kept_columns = _band(height, cutoff), _band(width, cutoff)
    box = kept_rows[:, None] * kept_columns[None, :]
    rows, columns = (-torch.arange(height)) % height, (-torch.arange(width)) % width
    mirrored = box[rows][:, columns]
    return ((box + mirrored) / 2)[:, : width // 2 + 1].contiguous()


def _band(size: int, cutoff: float) -> Tensor:
    half = size // 2
    reach = int(half * cutoff)
    frequency = (torch.arange(size) + half) % size - half
    return ((frequency >= -reach) & (frequency < reach)).double()


class LowPass:
    """`L_ν`: keeps the spatial frequencies below `cutoff`.

    `cutoff = 1` is the identity for every size (the published box is that for even sizes only: for odd ones it
    drops a row or column). A box that keeps nothing is `empty`, and callers skip it so that no bit changes.

    Args:
        height, width: size of the last two axes of what will be filtered.
        cutoff: ν in [0, 1].

    Raises:
        ValueError: `cutoff` outside [0, 1].
    """

    def __init__(self, height: int, width: int, cutoff: float):
        if not 0 <= cutoff <= 1:
            raise ValueError(f"cutoff is {cutoff}; it must lie in [0, 1] (a fraction of the Nyquist frequency)")
        self.identity = cutoff == 1
        self._size = (height, width)
        # Columns right of the band are zero after the mask: they are never transformed along H, nor back.
        columns = int(width // 2 * cutoff) + 1
        self._mask = None if self.identity else box_mask(height, width, float(cutoff))[:, :columns].contiguous()
        self.empty = self._mask is not None and not bool(self._mask.any())

    def __call__(self, x: Tensor) -> Tensor:
        """Filter `(…, H, W)`; half precision is transformed in float32 and handed back as it came.

        >>> flat = torch.full((1, 8, 8), 3.0)
        >>> torch.allclose(LowPass(8, 8, 0.5)(flat), flat)
        True
        """
        if tuple(x.shape[-2:]) != self._size:
            raise ValueError(f"this filter is for {self._size} (height, width), found {tuple(x.shape[-2:])}")
        if self._mask is None:
            return x
        if self.empty:
            return torch.zeros_like(x)
        real = x if x.dtype in (torch.float32, torch.float64) else x.float()
        band = torch.fft.rfft(real)[..., : self._mask.shape[-1]]
        mask = self._mask.to(device=x.device, dtype=band.dtype)
        band = torch.fft.ifft(torch.fft.fft(band, dim=-2) * mask, dim=-2)
        return torch.fft.irfft(band, n=self._size[-1]).to(x.dtype)

    def mean_square(self, x: Tensor) -> Tensor:
        """Mean square of the filtered `(…, H, W)` over its last two axes, `(…)` float64, without transforming back
        (Parseval).

        >>> x = torch.rand(2, 9, 12)
        >>> torch.allclose(LowPass(9, 12, 0.5).mean_square(x), LowPass(9, 12, 0.5)(x).double().square().mean((-2, -1)))
        True
        """
        if self._mask is None or self.empty:
            return self(x).square().mean(dim=(-2, -1), dtype=torch.float64)
        height, width = self._size
        real = x if x.dtype in (torch.float32, torch.float64) else x.float()
        band = torch.fft.fft(torch.fft.rfft(real)[..., : self._mask.shape[-1]], dim=-2)
        # A column stands for its mirror image too; the first has none, nor has the last of an even width.
        counted = torch.full((self._mask.shape[-1],), 2.0, dtype=torch.float64)
        counted[0] = 1
        if width % 2 == 0 and len(counted) == width // 2 + 1:
            counted[-1] = 1
        weights = (self._mask.square() * counted).to(device=x.device, dtype=real.dtype)
        energy = (torch.view_as_real(band).square().sum(dim=-1) * weights).sum(dim=(-2, -1), dtype=torch.float64)
        return energy / (height * width) ** 2


@lru_cache(maxsize=32)
def _cosines(frames: int, kept: int) -> Tensor:
    """The slowest `kept` of `frames` orthonormal cosines (DCT-II), float64, `(kept, frames)`."""
    place = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    basis = torch.cos(math.pi * torch.arange(kept, dtype=torch.float64)[:, None] * place)
    basis[0] /= math.sqrt(2)
    return basis * math.sqrt(2 / frames)


class TimeLowPass:
    """Keeps what changes slowly over the frames of `(B, C, F, H, W)`.

    A clip does not end where it begins, so it is continued by its mirror image, not by itself: of its F cosines
    (DCT-II), of frequency k/F of Nyquist, those below `cutoff` are kept; the mean always is.

    Args:
        frames: F ≥ 1.
        cutoff: in (0, 1] of the Nyquist frequency of the frames.

    >>> still = torch.ones(1, 1, 8, 2, 2)
    >>> torch.allclose(TimeLowPass(8, 0.1)(still), still)
    True
    """

    def __init__(self, frames: int, cutoff: float):
        if not 0 < cutoff <= 1:
            raise ValueError(
                f"cutoff is {cutoff}; it must lie above 0, at most 1 (a fraction of the Nyquist frequency)"
            )
        self.kept = max(1, math.ceil(frames * cutoff - 1e-9))
        self._frames = frames

    def __call__(self, x: Tensor) -> Tensor:
        """Filter `(B, C, F, H, W)`, float32 or float64."""
        if self.kept >= self._frames:
            return x
        basis = _cosines(self._frames, self.kept).to(x)
        return (basis.T @ (basis @ x.flatten(3))).view(x.shape)


def relative_norm(x: Tensor, reference: Tensor) -> float:
    """‖x‖ / ‖reference‖ of each batch element of `(B, …)`, averaged over the batch."""
    size = reference.flatten(1).norm(dim=1).clamp_min(torch.finfo(reference.dtype).tiny)
    return float((x.flatten(1).norm(dim=1) / size).mean())
