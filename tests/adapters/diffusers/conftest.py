"""diffusers is an extra: without it every module here is skipped, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from watching import seen  # noqa: F401 - a fixture


class _NeedsDiffusers(pytest.Module):
    def collect(self) -> Any:
        for package in ("diffusers", "transformers"):
            pytest.importorskip(package, reason=f"needs the diffusers extra ({package} is not installed)")
        return super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Look for the packages before a module that imports them is imported."""
    return _NeedsDiffusers.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def _one_thread_and_quiet() -> Iterator[None]:
    """Tiny models are an order of magnitude slower when threads fight over them."""
    import diffusers
    import transformers

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    yield
    torch.set_num_threads(threads)
