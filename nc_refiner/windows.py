"""Long clips through a refiner of limited length: overlapping windows, noise keyed by absolute frame, cross-fades."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["frame_noise", "sliding"]

_GOLDEN = 0x9E3779B97F4A7C15


def frame_noise(shape: tuple[int, ...], seed: int, first_frame: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise `(B, C, F, H, W)` whose every frame depends only on `seed` and its absolute number, so
    that overlapping windows of one clip agree on it. Drawn on the CPU: the same on every device.
    """
    batch, channels, frames, height, width = shape
    parts = []
    for frame in range(first_frame, first_frame + frames):
        generator = torch.Generator().manual_seed((seed + frame * _GOLDEN) % 2**63)
        parts.append(torch.randn((batch, channels, 1, height, width), generator=generator))
    return torch.cat(parts, dim=2).to(device)


def sliding(
    frames: Iterable[Tensor], window: int, overlap: int, process: Callable[[Tensor, int], Tensor]
) -> Iterator[Tensor]:
    """Run `process` over overlapping windows of a stream and yield the finished frames in order.

    The last window is moved back so that it is full too; windows fade into each other linearly over the frames
    they share. Never holds more than about two windows.

    Args:
        frames: single frames, each `(3, H, W)`.
        window: frames per window, ≥ 1; a shorter stream is one window of its own length.
        overlap: frames shared by neighbours, 0 ≤ overlap < window.
        process: `(window_frames (F, 3, H, W), absolute number of its first frame) -> (F, 3, H, W)`.

    Yields:
        Blocks `(n, 3, H, W)`, together as many frames as came in.

    Raises:
        ValueError: `window` or `overlap` out of range.
    """
    if window < 1 or not 0 <= overlap < window:
        raise ValueError(f"window is {window} and overlap {overlap}; needed: window ≥ 1 and 0 ≤ overlap < window")
    recent: deque[Tensor] = deque(maxlen=window)
    tail: Tensor | None = None
    start = seen = 0
    for frame in frames:
        if seen == start + window:
            done = _faded(process(torch.stack(tuple(recent)), start), tail, 0)
            start += window - overlap
            yield done[: window - overlap]
            tail = done[window - overlap :]
        recent.append(frame)
        seen += 1
    if seen:
        first = max(0, seen - window)
        done = process(torch.stack(tuple(recent)), first)
        yield _faded(done, tail, start - first)[start - first :]


def _faded(done: Tensor, tail: Tensor | None, offset: int) -> Tensor:
    """Fade from `tail`, the previous window's last frames, into `done`, which starts `offset` frames before it."""
    if tail is None or len(tail) == 0:
        return done
    count = len(tail)
    weight = (torch.arange(count) + 1) / (count + 1)
    weight = weight.view(-1, 1, 1, 1)
    mixed = tail * (1 - weight) + done[offset : offset + count] * weight
    return torch.cat([done[:offset], mixed, done[offset + count :]])
