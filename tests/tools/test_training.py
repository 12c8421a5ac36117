"""The training tool at tiny size: it learns, stops, and goes on where it stopped."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from embedded_training import card, loop
from embedded_training.blend import between, blended
from embedded_training.degrade import HEAVY, degrade
from embedded_training.evaluate import EvaluationClip, evaluate_clip, one_step
from embedded_training.ffdnet import find_ffdnet, load_ffdnet
from embedded_training.loop import Trainer, TrainingConfig, phase_of, to_latents
from embedded_training.sampling import ClipSampler
from embedded_training.speed import Mode, fastest
from embedded_training.verdict import counts, one_step_table, rivals, table, targets

from nc_refiner.adapters.embedded.model import OWN_ERROR, DenoiserConfig, VideoDenoiser
from nc_refiner.adapters.embedded.weights import save_network
from nc_refiner.evaluation import psnr, spatial_frequency
from tests.small_embedded import SMALL


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = {"film": (3, 9, 64, 96, 3), "validation": (2, 4, 64, 96, 3), "photo_a": (400, 500, 3)}
    for name, shape in shapes.items():
        small = rng.integers(0, 255, (*shape[:-3], shape[-3] // 4, shape[-2] // 4, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", small.repeat(4, axis=-3).repeat(4, axis=-2))
    return folder


CONFIG = TrainingConfig(crop=16, frames=4, batch=2, network=SMALL, weights=(0.5, 0, 0.5))


def trainer(cache, tmp_path, minutes, monkeypatch, run="run", **options):
    monkeypatch.setattr(loop, "validation_clips", lambda *_: torch.rand(1, 3, 4, 16, 16))
    config = TrainingConfig(**{**vars(CONFIG), "minutes": minutes})
    return Trainer(config, cache, tmp_path / run, precision="float32", **options)


def ffdnet_file(path, width=8, layers=4):
    """FFDNet's layout, tiny: a head, a body, a tail, each under the even numbers of a sequence."""
    sizes = [13, *[width] * (layers - 1), 12]
    generator = torch.Generator().manual_seed(2)
    state = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        state[f"model.{2 * index}.weight"] = 0.1 * torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"model.{2 * index}.bias"] = torch.zeros(outputs)
    torch.save(state, path)
    return path


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
    assert history["step"] == first.step and [record["step"] for record in history["history"]] == [0, first.step]
    card.write_card(tmp_path / "CARD.md", first.average, history, first.seconds, {}, "A tiny run.")
    written = (tmp_path / "CARD.md").read_text()
    assert (
        "A tiny run." in written and "CC-BY 3.0" in written and "Kai Zhang" in written and "random weights" in written
    )


def test_a_piece_ends_before_the_budget(cache, tmp_path, monkeypatch):
    with torch.random.fork_rng():
        first = trainer(cache, tmp_path, 60, monkeypatch)
        first.train(piece=0.5)
        again = trainer(cache, tmp_path, 60, monkeypatch)
    assert 0 < first.progress < 0.1 and again.step == first.step > 0


def test_training_starts_from_shipped_weights(cache, tmp_path, monkeypatch):
    with torch.random.fork_rng():
        save_network(VideoDenoiser(SMALL), tmp_path / "shipped.safetensors")
        begun = trainer(cache, tmp_path, 0.01, monkeypatch, start=tmp_path / "shipped.safetensors")
        stored = loop.load_network(tmp_path / "shipped.safetensors").state_dict()
        assert all(torch.equal(value, stored[name]) for name, value in begun.network.state_dict().items())
        assert begun.step == 0 and begun._rate() < 0.01, "a fresh optimiser warms up"
        begun.train(validate_every=1000)
        assert not all(torch.equal(value, stored[name]) for name, value in begun.network.state_dict().items())
        save_network(VideoDenoiser(), tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="holds a network of shape"):
            trainer(cache, tmp_path, 0.01, monkeypatch, "other", start=tmp_path / "other.safetensors")


def test_training_starts_as_ffdnet(cache, tmp_path, monkeypatch):
    """Mixing and helper add nothing at first: the network is FFDNet, run as its authors do."""
    path = ffdnet_file(tmp_path / "ffdnet_color.pth")
    with torch.random.fork_rng():
        network = load_ffdnet(path, SMALL)
        begun = trainer(cache, tmp_path, 0.01, monkeypatch, start=path)
    state, sigma = torch.load(path, weights_only=True), 30 / 255
    frame = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    h = torch.nn.functional.pixel_unshuffle(frame, 2)
    h = torch.cat([h, torch.full((1, 1, 8, 8), sigma)], dim=1)
    for index in range(4):
        weight, bias = (state[f"model.{2 * index}.{name}"] for name in ("weight", "bias"))
        h = torch.nn.functional.conv2d(h, weight, bias, padding=1)
        h = h if index == 3 else h.relu()
    trust = sigma**2 / (sigma**2 + OWN_ERROR**2)
    wanted = (1 - trust) * frame + trust * torch.nn.functional.pixel_shuffle(h, 2)
    phase = phase_of(torch.tensor([sigma]))
    with torch.no_grad():
        found = network(math.cos(float(phase) * math.pi / 2) * to_latents(frame[:, :, None]), phase)
    assert torch.allclose(found, to_latents(wanted[:, :, None]), atol=1e-4)
    assert torch.equal(begun.network.trunk[0].weight, state["model.0.weight"])
    assert find_ffdnet(tmp_path) == path
    with pytest.raises(ValueError, match="does not fit a trunk of 12 layers"):
        load_ffdnet(path)


def test_some_of_the_noisier_samples_are_shown_softened(cache, tmp_path, monkeypatch):
    plain = trainer(cache, tmp_path, 0.0, monkeypatch)
    latents = torch.randn(6, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([10.0, 80.0, 10.0, 80.0, 80.0, 80.0]) / 255
    state = plain.generator.get_state()
    assert plain._softened(latents, sigma) is latents and torch.equal(state, plain.generator.get_state())
    plain.config.soft = 1.0
    shown = plain._softened(latents, sigma)
    assert torch.equal(shown[::2][:2], latents[::2][:2]) and shown.shape == latents.shape
    for index in (1, 3, 4, 5):
        assert float(shown[index].std()) < 0.8 * float(latents[index].std())
        assert float(shown[index].mean()) == pytest.approx(float(latents[index].mean()), abs=0.05)


def test_the_fastest_mode_is_measured_and_leaves_no_gradient():
    with torch.random.fork_rng():
        network = VideoDenoiser(SMALL)
    sample = torch.zeros(1, 3, 2, 16, 16)
    assert not fastest(network, sample, "float32", repeats=1).bfloat16
    assert fastest(network, sample, "bfloat16", repeats=1).bfloat16
    assert isinstance(fastest(network, sample, repeats=1), Mode)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_latents_are_the_adapters_own(embedded):
    clip = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_latents(clip.transpose(0, 1)[None]), embedded.encode(clip))


def textured():
    y, x = torch.meshgrid(torch.linspace(0, 9, 64), torch.linspace(0, 9, 96), indexing="ij")
    frames = (0.5 + 0.3 * torch.sin(3 * x) * torch.cos(2 * y)).expand(4, 3, -1, -1)
    return (frames + 0.1 * torch.rand(frames.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_degrading_softens_and_keeps_the_content():
    frames = textured()
    found, worse = degrade(frames), degrade(frames, how=HEAVY)
    assert found.shape == worse.shape == frames.shape
    assert (spatial_frequency(found) < spatial_frequency(frames)).all()
    assert (psnr(frames, found) > 18).all()
    assert (psnr(frames, worse) < psnr(frames, found)).all()


@pytest.mark.slow
@pytest.mark.long
def test_an_evaluation_says_what_is_met_and_what_falls_short(embedded, tmp_path):
    frames = textured()
    rows = {}
    for name, how in (("mild", None), ("heavy", HEAVY)):
        degraded = degrade(frames) if how is None else degrade(frames, how=how)
        clips = [EvaluationClip(f"clip{i}", frames, degraded) for i in range(2)]
        options = {"steps": 6, "matched": True, "perceptual": lambda a, b: (a - b).abs().mean(dim=(1, 2, 3))}
        rows[name] = [evaluate_clip(embedded, clip, 0.5, seed=i, **options) for i, clip in enumerate(clips)]
    first = rows["mild"][0]
    assert first["N=0"]["output_loss"] > first["N=3"]["output_loss"] > 0
    assert len(first["content_loss"]) == 4 and first["content_loss"][3] < first["content_loss"][0]
    assert abs(first["matched"]["output_loss"] / first["N=3"]["output_loss"] - 1) < 0.3
    assert counts(rows["mild"])["N=3 mse better than SDEdit's"] == 2
    assert set(rivals(rows["mild"])) >= {"psnr_to_original", "lpips", "warping"}
    assert table(rows["mild"])[2].startswith("| original | – | – | – | – |")
    with torch.random.fork_rng():
        steps = one_step({"embedded": embedded.network, "FFDNet": VideoDenoiser().eval()}, clips)
    assert steps["embedded"]["clip0"]["25"] > steps["noisy"]["clip0"]["25"] > 19
    assert len(one_step_table(steps)) == 6
    lines = targets(rows["mild"], rows["heavy"], steps)
    assert any("N=3 mse better than SDEdit's" in line and line.endswith("| met |") for line in lines)
    evaluation = {
        "clips": ["clip0", "clip1"], "frames": 4, "height": 64, "strength": 0.5, "steps": 6, "cutoff": 1.0,
        "degradations": rows, "one_step": steps,
    }  # fmt: skip
    history = {"config": vars(CONFIG) | {"network": SMALL.as_dict()}, "history": [], "step": 1}
    card.write_card(tmp_path / "CARD.md", embedded.network, history, 60.0, evaluation)
    assert "What it is held to" in (tmp_path / "CARD.md").read_text()


def test_weights_between_the_start_and_what_was_trained(tmp_path):
    start = load_ffdnet(ffdnet_file(tmp_path / "ffdnet.pth"), SMALL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = VideoDenoiser(SMALL)
    for module in trained.mix.values():
        torch.nn.init.normal_(module.mix.weight, generator=torch.Generator().manual_seed(1))
    x_t, phase = torch.rand(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(3)), torch.tensor([0.3])
    with torch.no_grad():
        estimates = {
            (trunk, mixing): blended(start, trained, trunk, mixing, SMALL.gate)(x_t, phase)
            for trunk, mixing in ((0, 0), (1, 1), (0.5, 1))
        }
        assert torch.equal(estimates[0, 0], start(x_t, phase)) and torch.equal(estimates[1, 1], trained(x_t, phase))
    wider = VideoDenoiser(DenoiserConfig(width=16))
    half = blended(start, trained, 0.5, 1, 4.0)
    assert half.config.gate == 4 and not torch.equal(estimates[0.5, 1], estimates[1, 1])
    assert torch.allclose(half.trunk[0].weight, (start.trunk[0].weight + trained.trunk[0].weight) / 2)
    third = between(start, trained, 0.25)
    assert torch.allclose(third.trunk[1].weight, start.trunk[1].weight.lerp(trained.trunk[1].weight, 0.25))
    assert torch.allclose(third.mix["1"].mix.weight, 0.25 * trained.mix["1"].mix.weight)
    with torch.no_grad():
        assert torch.equal(between(start, trained, 1.0)(x_t, phase), estimates[1, 1])
    for other in (lambda: blended(wider, trained, 0.5, 1, 4.0), lambda: between(wider, trained, 0.5)):
        with pytest.raises(ValueError, match="of shape"):
            other()
