"""An independent evaluation of the published method in float64 NumPy, for tests to compare against.

It follows the paper's own form: complex FFT over (H, W), fftshift, half-open box, real part; and the noise update
e ← ε + (α/σ)·H(x̂₀ − x_r).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def low_pass(x: np.ndarray, cutoff: float) -> np.ndarray:
    if cutoff == 1:
        return x
    height, width = x.shape[-2:]
    mask = np.zeros((height, width))
    row, column = height // 2, width // 2
    up, across = int(row * cutoff), int(column * cutoff)
    mask[row - up : row + up, column - across : column + across] = 1
    spectrum = np.fft.fftshift(np.fft.fft2(x), axes=(-2, -1)) * mask
    return np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real


Model = Callable[[np.ndarray], np.ndarray]


def by_published_form(
    reference: np.ndarray, noise: np.ndarray, alpha: float, sigma: float, epsilon: Model, cutoff: float, iterations: int
) -> np.ndarray:
    """The calibrated noise after `iterations` of eqs. 11–15."""
    for _ in range(iterations):
        x_t = alpha * reference + sigma * noise
        eps = epsilon(x_t)
        excess = (x_t - sigma * eps) / alpha - reference
        noise = eps + alpha / sigma * (excess - low_pass(excess, cutoff))
    return noise


def by_noise_form(
    reference: np.ndarray, noise: np.ndarray, alpha: float, sigma: float, epsilon: Model, cutoff: float, iterations: int
) -> np.ndarray:
    """The same through e ← e + L(ε − e)."""
    for _ in range(iterations):
        eps = epsilon(alpha * reference + sigma * noise)
        noise = noise + low_pass(eps - noise, cutoff)
    return noise
