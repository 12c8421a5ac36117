"""xformers is used only where it really computes."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from nc_refiner.adapters.runtime import attention, has_xformers_kernel


@pytest.fixture(autouse=True)
def asked_anew():
    attention._known.clear()
    yield
    attention._known.clear()


def install(monkeypatch, kernel):
    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    package.__spec__ = ModuleSpec("xformers", None)
    ops.memory_efficient_attention = kernel
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


def test_absent(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    assert not has_xformers_kernel("cpu", torch.float32)


def test_installed_without_a_kernel_for_the_device(monkeypatch):
    def no_kernel(query, key, value):
        raise NotImplementedError("No operator found for `memory_efficient_attention_forward`")

    install(monkeypatch, no_kernel)
    assert not has_xformers_kernel("cpu", torch.float32)


def test_installed_with_a_kernel(monkeypatch, global_rng_untouched):
    install(monkeypatch, torch.nn.functional.scaled_dot_product_attention)
    assert has_xformers_kernel("cpu", torch.float32)
    assert not has_xformers_kernel("no-such-device", torch.float32)
