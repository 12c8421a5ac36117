"""Long clips through a refiner of limited length: where the windows lie, what each weighs, noise keyed by frame."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["frame_noise", "seams", "sliding", "window_generator", "window_starts", "window_weights"]

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


def window_generator(seed: int, first_frame: int) -> torch.Generator:
    """What a window draws from beside its noise: decided by `seed` and the number of its first frame."""
    return torch.Generator().manual_seed((seed + 1 + first_frame) % 2**63)


def window_starts(count: int, window: int, overlap: int) -> list[int]:
    """First frames of the fewest windows that cover `count` frames and share at least `overlap`, spread evenly.

    Raises:
        ValueError: `count`, `window` or `overlap` out of range.
    """
    _check(window, overlap)
    if count < 1:
        raise ValueError(f"a clip of {count} frames has no windows; needed: at least 1")
    if count <= window:
        return [0]
    gaps = -(-(count - window) // (window - overlap))
    return [(index * (count - window) + gaps // 2) // gaps for index in range(gaps + 1)]


def window_weights(starts: Sequence[int], window: int) -> list[Tensor]:
    """How much each window counts at each of its frames, `(window,)` float32 each, in (0, 1].

    They sum to 1 at every frame. A window rises and falls as sin² over the frames it shares with a neighbour, so that
    a prediction counts least where the network saw least around it; a frame of one window alone is taken as it is.

    Args:
        starts: first frames of the windows, rising, neighbours at most `window` apart.
        window: frames per window; where there is one window alone, it may have fewer.
    """
    weights = []
    for index, start in enumerate(starts):
        rise = starts[index - 1] + window - start if index else 0
        fall = start + window - starts[index + 1] if index + 1 < len(starts) else 0
        weights.append(_ramp(rise, window) * _ramp(fall, window).flip(0))
    total = torch.zeros(starts[-1] + window, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    return [(weight / total[start : start + window]).float() for start, weight in zip(starts, weights, strict=True)]


def seams(windows: Iterable[tuple[int, int]]) -> list[list[int]]:
    """`[first, last]` frame that neighbouring windows `(first, frames)` share; where they share none, the frames on
    either side of the cut.
    """
    found = []
    for (before, frames), (after, _) in pairwise(windows):
        end = before + frames - 1
        found.append([min(after, end), max(after, end)])
    return found


def _ramp(rise: int, window: int) -> Tensor:
    """1 everywhere but over the first `rise` of `window` frames, which rise from near 0 to near 1 as sin²."""
    share = (torch.arange(window, dtype=torch.float64) + 1) / (rise + 1)
    return torch.sin(math.pi / 2 * share.clamp(max=1)).square()


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
    _check(window, overlap)
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


def _check(window: int, overlap: int) -> None:
    if window < 1 or not 0 <= overlap < window:
        raise ValueError(f"window is {window} and overlap {overlap}; needed: window ≥ 1 and 0 ≤ overlap < window")


def _faded(done: Tensor, tail: Tensor | None, offset: int) -> Tensor:
    """Fade from `tail`, the previous window's last frames, into `done`, which starts `offset` frames before it."""
    if tail is None or len(tail) == 0:
        return done
    count = len(tail)
    weight = (torch.arange(count) + 1) / (count + 1)
    weight = weight.view(-1, 1, 1, 1)
    mixed = tail * (1 - weight) + done[offset : offset + count] * weight
    return torch.cat([done[:offset], mixed, done[offset + count :]])
