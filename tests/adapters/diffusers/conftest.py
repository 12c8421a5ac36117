"""diffusers is an extra: without it these tests are skipped, with a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

for package in ("diffusers", "transformers"):
    pytest.importorskip(package, reason=f"needs the diffusers extra ({package} is not installed)")


from watching import seen  # noqa: E402, F401 - a fixture


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
