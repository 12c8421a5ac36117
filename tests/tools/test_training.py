"""The training tool at tiny size: it learns, stops, and goes on where it stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from embedded_training import card, loop
from embedded_training.degrade import degrade
from embedded_training.loop import Trainer, TrainingConfig, to_latents
from embedded_training.sampling import ClipSampler

from nc_refiner.adapters.embedded.model import UNetConfig
from nc_refiner.evaluation import psnr, spatial_frequency


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("film", (3, 4, 64, 96, 3)), ("validation", (2, 4, 64, 96, 3)), ("photo_a", (400, 500, 3))):
        small = rng.integers(0, 255, (*shape[:-3], shape[-3] // 4, shape[-2] // 4, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", small.repeat(4, axis=-3).repeat(4, axis=-2))
    return folder


CONFIG = TrainingConfig(
    crop=16, frames=4, batch=2, network=UNetConfig(channels=(8, 8), blocks=(1, 1), embedding=16), weights=(0.5, 0, 0.5)
)


def trainer(cache, tmp_path, minutes, monkeypatch):
    monkeypatch.setattr(loop, "validation_clips", lambda *_: torch.rand(1, 3, 4, 16, 16))
    config = TrainingConfig(**{**vars(CONFIG), "minutes": minutes})
    return Trainer(config, cache, tmp_path / "run", compiled=False, device="cpu")


def test_batches_are_decided_by_their_number(cache):
    one, two = (ClipSampler(cache, 4, 16, 0, (0.5, 0.0, 0.5)) for _ in range(2))
    first = one.batch(3, 2)
    assert first.shape == (2, 3, 4, 16, 16)
    assert first.min() >= 0 and first.max() <= 1
    two.batch(1, 2)
    assert torch.equal(first, two.batch(3, 2))
    assert not torch.equal(first, one.batch(4, 2))


def test_training_resumes_where_it_stopped(cache, tmp_path, monkeypatch, global_rng_untouched):
    with torch.random.fork_rng():
        first = trainer(cache, tmp_path, 0.02, monkeypatch)
        first.train(report_every=1000, validate_every=1000)
        assert first.progress >= 1 and first.step > 1
        again = trainer(cache, tmp_path, 0.04, monkeypatch)
    assert again.step == first.step and again.progress == pytest.approx(first.progress / 2)
    for name, value in first.average.state_dict().items():
        assert torch.equal(value, again.average.state_dict()[name]), name
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["step"] == first.step and len(history["history"]) == 1
    card.write_card(tmp_path / "CARD.md", first.average, history, first.seconds, {}, None, "A tiny run.")
    assert "A tiny run." in (tmp_path / "CARD.md").read_text() and "CC-BY 3.0" in (tmp_path / "CARD.md").read_text()


def test_latents_are_the_adapters_own(embedded):
    clip = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_latents(clip.transpose(0, 1)[None]), embedded.encode(clip))


def test_degrading_softens_and_keeps_the_content():
    y, x = torch.meshgrid(torch.linspace(0, 9, 64), torch.linspace(0, 9, 96), indexing="ij")
    frames = (0.5 + 0.3 * torch.sin(3 * x) * torch.cos(2 * y)).expand(4, 3, -1, -1)
    frames = (frames + 0.1 * torch.rand(frames.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    found = degrade(frames)
    assert found.shape == frames.shape
    assert (spatial_frequency(found) < spatial_frequency(frames)).all()
    assert (psnr(frames, found) > 18).all()
