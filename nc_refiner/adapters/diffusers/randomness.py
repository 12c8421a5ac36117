"""Snapshots of every source of randomness a pipeline's call may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["RandomState"]


def _generators(values: Iterable[Any]) -> Iterator[torch.Generator]:
    for value in values:
        if isinstance(value, torch.Generator):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _generators(value)
        elif isinstance(value, dict):
            yield from _generators(value.values())


class RandomState:
    """The state of the global generators (torch on every device in use, numpy, Python) and of those in `values`.

    Args:
        values: arguments of a call; generators in them, also in lists, tuples and dicts, are found.
    """

    def __init__(self, values: Iterable[Any] = ()):
        self._own = [(generator, generator.get_state()) for generator in _generators(values)]
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self._mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        self._numpy = np.random.get_state()
        self._python = random.getstate()

    def restore(self) -> None:
        """Put every state back as it was when this was made."""
        for generator, state in self._own:
            generator.set_state(state)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
