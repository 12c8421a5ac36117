"""The host draws from global generators: lend it one of ours, and put the global ones back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawing_from", "random_state_kept"]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Inside the block anything may draw or reseed; afterwards every global generator is as it was."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside the block the global CPU generator continues the stream of `generator` (a CPU one), and afterwards
    `generator` continues where the block stopped. Generators of GPUs are seeded from it. Nothing global is moved.
    """
    with random_state_kept():
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(int(torch.randint(2**63 - 1, (), generator=generator)))
        torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.get_rng_state())
