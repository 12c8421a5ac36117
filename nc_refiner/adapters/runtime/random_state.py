"""Randomness through explicit generators, also in hosts that draw from the global ones. A global state is shared with
every other thread of the process, so it is never set back while a host runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["PrivateStream", "drawing_from", "generators_in", "random_state_kept", "rewinder"]


def generators_in(values: Iterable[Any]) -> Iterator[torch.Generator]:
    """The generators among `values`, also in lists, tuples and dicts in them."""
    for value in values:
        if isinstance(value, torch.Generator):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from generators_in(value)
        elif isinstance(value, dict):
            yield from generators_in(value.values())


def rewinder(values: Iterable[Any]) -> Callable[[], None]:
    """A function that sets the generators among `values` back to where they stand now."""
    states = [(generator, generator.get_state()) for generator in generators_in(values)]

    def rewind() -> None:
        for generator, state in states:
            generator.set_state(state)

    return rewind


def _global_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


class PrivateStream:
    """A generator that goes on where the global one of `device` stands.

    Handed to a call in place of no generator, it draws the very numbers the global one would, and can be rewound
    without anybody else's numbers coming again.
    """

    def __init__(self, device: torch.device):
        # Apple's and CPU generators have no index.
        self._device = device if device.type in ("cuda", "mps") else torch.device("cpu")
        self.generator = torch.Generator(self._device)
        self._start = _global_state(self._device)
        self.generator.set_state(self._start)

    def hand_back(self) -> None:
        """Leave the global generator where this one stands, unless somebody else has drawn from it meanwhile."""
        if torch.equal(_global_state(self._device), self._start):
            _set_global_state(self._device, self.generator.get_state())


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Inside the block anything may draw or reseed (loading a model); afterwards every global generator is as it was.

    It is the whole process's state that is set back: not for work that runs beside other threads.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), _python_state_kept():
        yield


@contextmanager
def _python_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


_LIKE: dict[Any, Callable[..., Any]] = {torch.randn_like: torch.Tensor.normal_, torch.rand_like: torch.Tensor.uniform_}
_DRAWING = {
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
    torch.Tensor.bernoulli_,
    torch.Tensor.exponential_,
    torch.Tensor.normal_,
    torch.Tensor.random_,
    torch.Tensor.uniform_,
}


class _Redirected(TorchFunctionMode):
    """In this thread, draws that name no generator come from ours; one for each GPU is seeded from it when needed."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self._own: dict[str, torch.Generator] = {generator.device.type: generator}
        self._first = generator

    def _generator(self, place: Any) -> torch.Generator:
        device = torch.device(place if place is not None else torch.get_default_device())
        if device.type not in self._own:
            seed = int(torch.randint(2**63 - 1, (), generator=self._first, device=self._first.device))
            self._own[device.type] = torch.Generator(device).manual_seed(seed)
        return self._own[device.type]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LIKE and kwargs.get("generator") is None:
            blank = torch.empty_like(*args, **{name: value for name, value in kwargs.items() if name != "generator"})
            return _LIKE[func](blank, generator=self._generator(blank.device))
        if func in _DRAWING and kwargs.get("generator") is None:
            # What is drawn into a tensor is drawn where it lives.
            tensor = next((value for value in args if isinstance(value, Tensor)), None)
            place = kwargs.get("device") if tensor is None else tensor.device
            kwargs = {**kwargs, "generator": self._generator(place)}
        return func(*args, **kwargs)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside the block this thread's draws of torch that name no generator come from `generator`, on the device where
    they are made: from it itself on its own device, elsewhere from one seeded by it. No global generator of torch is
    moved or read; Python's and NumPy's are set back.
    """
    with _python_state_kept(), _Redirected(generator):
        yield
