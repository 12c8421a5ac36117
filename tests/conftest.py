"""Shared fixtures: quiet threads, the embedded refiner as it ships and in small, clips, a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS
from tests.small_embedded import small_weights

torch.set_num_threads(1)
settings.register_profile("default", deadline=None, max_examples=100)
settings.load_profile("default")

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def clips() -> Path:
    """Folder of real clips beside the project; tests that need it are skipped where it is absent."""
    if not CLIPS.is_dir():
        pytest.skip("the clip collection ../shared/data is not here")
    return CLIPS


@pytest.fixture(scope="session")
def embedded() -> EmbeddedRefiner:
    """The shipped, trained refiner on the CPU."""
    return EmbeddedRefiner(weights=DEFAULT_WEIGHTS, device="cpu")


@pytest.fixture(scope="session")
def small_embedded() -> EmbeddedRefiner:
    """The same adapter around a small network, for tests of what surrounds it."""
    return EmbeddedRefiner(weights=small_weights(), device="cpu")


@pytest.fixture(scope="module")
def small_model() -> Iterator[None]:
    """For a module: wherever this process builds the embedded refiner by name, it is the small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nc_refiner.adapters.embedded.adapter.DEFAULT_WEIGHTS", small_weights())
        yield


@pytest.fixture
def global_rng_untouched():
    """Fails the test if it moves torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global random state moved"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium through Playwright; tests are skipped with the reason where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=flags)
        yield chromium
        chromium.close()
