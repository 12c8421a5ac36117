"""How a training step runs fastest here: precision and memory layout, chosen by measuring."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mode:
    """One way to run a step: autocast to bfloat16 or not, `channels_last` or not, compiled or not."""

    bfloat16: bool
    channels_last: bool
    compiled: bool = False

    def __str__(self) -> str:
        words = ["bfloat16" if self.bfloat16 else "float32", "channels_last" if self.channels_last else "contiguous"]
        return " ".join(words + ["compiled"] * self.compiled)


def prepare(network: nn.Module, mode: Mode) -> Callable[..., Tensor]:
    """`network` in the mode's layout (changed in place), wrapped by torch.compile where the mode says so."""
    layout = torch.channels_last if mode.channels_last else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    wrapped: Callable[..., Tensor] = torch.compile(network) if mode.compiled else network
    return wrapped


def fastest(
    network: nn.Module, sample: Tensor, precision: str = "auto", compiled: bool = False, repeats: int = 3
) -> Mode:
    """Time a forward and backward pass in every allowed mode on `sample` (noisy latents) and return the fastest.

    Processors without bf16 units emulate it, many times slower than float32; with them it is twice as fast.

    Args:
        precision: "float32" or "bfloat16" to fix it, "auto" to try both.
        compiled: also try torch.compile (minutes).
        repeats: timed runs after one warm-up; the best counts, so that other work on the machine matters less.
    """
    halves = {"auto": (False, True), "float32": (False,), "bfloat16": (True,)}[precision]
    modes = [
        Mode(half, last, c)
        for c in ([False, True] if compiled else [False])
        for half in halves
        for last in (False, True)
    ]
    seconds = {mode: _time(network, sample, mode, repeats) for mode in modes}
    network.zero_grad(set_to_none=True)
    best = min(modes, key=seconds.__getitem__)
    log.info("seconds a step: %s; taking %s", {str(m): round(s, 3) for m, s in seconds.items()}, best)
    return best


def _time(network: nn.Module, sample: Tensor, mode: Mode, repeats: int) -> float:
    forward = prepare(network, mode)
    phase = torch.full((len(sample),), 0.3, device=sample.device)
    best, slowest_useful = float("inf"), 60.0
    for turn in range(repeats + 1):
        start = time.perf_counter()
        with torch.autocast(sample.device.type, torch.bfloat16, enabled=mode.bfloat16):
            output = forward(sample, phase)
        output.float().square().mean().backward()
        if sample.device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - start
        if turn:
            best = min(best, taken)
        elif taken > slowest_useful and not mode.compiled:
            return taken
    return best
