"""The shipped model: what it is, that it denoises, and that its schedule is what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.adapters.embedded.model import DenoiserConfig, VideoDenoiser
from nc_refiner.adapters.embedded.weights import DEFAULT_WEIGHTS, load_network, save_network
from tests.small_embedded import SMALL, grown


def test_weights_are_small_and_described():
    assert DEFAULT_WEIGHTS.stat().st_size < 16 * 2**20
    assert DEFAULT_WEIGHTS.with_name("MODEL_CARD.md").is_file()


def test_latents_are_a_lossless_transform_of_pixels(embedded):
    frames = torch.rand((5, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    latents = embedded.encode(frames)
    assert latents.shape == (1, 3, 5, 32, 48)
    assert torch.allclose(latents[0].transpose(0, 1), 4 * frames - 2, atol=1e-6)
    assert torch.allclose(embedded.decode(latents), frames, atol=1e-6)


def test_schedule_is_variance_preserving_and_trailing(embedded):
    timesteps = embedded.timesteps(10, 0.5)
    assert timesteps.values.tolist() == [499, 399, 299, 199, 99]
    levels = [embedded.noise_level(t) for t in timesteps]
    assert all(math.isclose(level.norm, 1) for level in levels)
    assert [level.sigma for level in levels] == sorted((level.sigma for level in levels), reverse=True)
    assert embedded.timesteps(30, embedded.strength_at(599)).first == 599


def test_estimates_are_close_to_a_clean_picture(embedded):
    """A trained model removes most of the noise; an untrained one cannot."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    frame = torch.stack([0.5 + 0.3 * torch.sin(5 * x), 0.5 + 0.3 * torch.cos(4 * y), 0.4 + 0.2 * x * y])
    reference = embedded.encode(frame.expand(8, -1, -1, -1))
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
    timestep = torch.tensor(299)
    level = embedded.noise_level(timestep)
    estimate = embedded.predict_x0(level.add_noise(reference, noise), timestep, None)
    left = float((estimate - reference).square().mean()) * (level.alpha / level.sigma) ** 2
    assert left < 0.1


def test_evaluations_are_counted(embedded):
    before = embedded.evaluations
    embedded.predict_x0(torch.zeros(1, 3, 2, 8, 8), torch.tensor(100), None)
    assert embedded.evaluations == before + 1


@pytest.mark.parametrize(
    ("steps", "strength", "words"), [(0, 0.5, "1…1000"), (10, 0.0, r"\(0, 1\]"), (3, 0.1, "no step")]
)
def test_schedules_without_a_step_are_refused(embedded, steps, strength, words):
    with pytest.raises(ValueError, match=words):
        embedded.timesteps(steps, strength)


def test_network_is_convolutional_in_time_and_exact_about_batches():
    network = grown(VideoDenoiser(SMALL))
    x = torch.randn((2, 3, 5, 16, 16), generator=torch.Generator().manual_seed(0))
    phase = torch.tensor([0.2, 0.7])
    both = network(x, phase)
    for i in range(2):
        assert torch.allclose(both[i : i + 1], network(x[i : i + 1], phase[i : i + 1]), atol=1e-5)
    moved = network(torch.cat([x[:, :, :4], x[:, :, 4:] + 1], dim=2), phase)
    assert not torch.equal(moved[:, :, 3], both[:, :, 3]), "a frame must see its neighbour"


def test_the_layout_in_memory_changes_nothing_but_rounding(embedded):
    """The adapter lays the network out as its convolutions run fastest on the CPU."""
    assert embedded.network.trunk[1].weight.is_contiguous(memory_format=torch.channels_last)
    plain = load_network(DEFAULT_WEIGHTS)
    x = torch.randn((1, 3, 4, 32, 48), generator=torch.Generator().manual_seed(0))
    phase = torch.tensor([0.4])
    with torch.no_grad():
        assert torch.allclose(embedded.network(x, phase), plain(x, phase), atol=2e-4, rtol=0)


def test_a_fresh_network_looks_at_single_frames():
    """It begins as the single-frame denoiser its trunk is, and has to learn to use the neighbours."""
    with torch.random.fork_rng():
        network = VideoDenoiser(SMALL).eval()
    x = torch.randn((1, 3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(x, torch.tensor([0.3]))
        alone = torch.cat([network(x[:, :, i : i + 1], torch.tensor([0.3])) for i in range(3)], dim=2)
    assert torch.allclose(whole, alone, atol=1e-5)


@pytest.mark.parametrize("timestep", [0, 500, 800, 999])
@pytest.mark.parametrize("frames", [1, 3, 32])
def test_estimates_stay_bounded_at_every_noise_level(embedded, timestep, frames):
    """Cascades sample from pure noise, where α is nearly 0 and x_t/α has no bound."""
    noise = torch.randn((1, 3, frames, 16, 24), generator=torch.Generator().manual_seed(2))
    estimate = embedded.predict_x0(noise, torch.tensor(timestep), None)
    assert estimate.shape == noise.shape and estimate.abs().max() < 8


def test_sampling_from_pure_noise_gives_a_picture(embedded):
    timesteps = embedded.timesteps(12, 1.0)
    noise = torch.randn((1, 3, 4, 32, 32), generator=torch.Generator().manual_seed(3))
    frames = embedded.decode(embedded.denoise(noise, timesteps, None))
    assert torch.isfinite(frames).all() and 0.005 < float(frames.std()) < 0.5


def test_v_is_what_the_estimate_implies(embedded):
    x_t = torch.randn((1, 3, 2, 16, 16), generator=torch.Generator().manual_seed(5))
    level, timestep = embedded.noise_level(torch.tensor(400)), torch.tensor(400)
    v, x0 = embedded.predict_v(x_t, timestep), embedded.predict_x0(x_t, timestep, None)
    assert torch.allclose(level.alpha * x_t - level.sigma * v, x0, atol=1e-5)


def test_weight_files_describe_themselves_and_are_checked(tmp_path, global_rng_untouched):
    path = tmp_path / "tiny.safetensors"
    with torch.random.fork_rng():
        network = VideoDenoiser(SMALL)
    save_network(network, path)
    loaded = load_network(path)
    assert loaded.config == SMALL
    assert EmbeddedRefiner(path, device="cpu").requirements.size_multiple == (8, 8)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a weight file"):
        load_network(broken)
    with pytest.raises(FileNotFoundError, match="reinstall"):
        load_network(tmp_path / "absent.safetensors")


def test_weights_of_the_earlier_layout_are_refused_in_words(tmp_path):
    path = tmp_path / "earlier.safetensors"
    config = {"in_channels": 48, "channels": [96, 128, 192], "blocks": [2, 2, 1], "embedding": 192}
    save_file({"inlet.bias": torch.zeros(96)}, path, metadata={"config": json.dumps(config)})
    with pytest.raises(ValueError, match=r"earlier embedded refiner.*latents are pixels"):
        EmbeddedRefiner(path, device="cpu")


def test_the_receipt_says_what_the_latents_are(embedded):
    assert embedded.describe()["latents"] == "pixels"


def test_the_adapters_cutoff_is_used_where_none_is_named(embedded):
    """Resolved once, so that the receipt says what was run; what is named stays."""
    default = embedded.requirements.default_cutoff
    assert 0 < default < 1
    clip, settings = VideoClip(torch.rand(2, 3, 16, 16)), {"seed": 1, "num_inference_steps": 6}
    result = CalibratedRefiner(embedded)(clip, **settings)
    named = CalibratedRefiner(embedded, NoiseCalibration(cutoff=default))(clip, **settings)
    assert result.receipt["calibration"]["cutoff"] == default
    assert torch.equal(result.clip.frames, named.clip.frames)
    whole = CalibratedRefiner(embedded, NoiseCalibration(cutoff=1.0))(clip, **settings)
    assert whole.receipt["calibration"]["cutoff"] == 1.0
    assert not torch.equal(result.clip.frames, whole.clip.frames)
    assert CalibratedRefiner(embedded).with_calibration(iterations=1).calibration.cutoff == default


def test_where_there_is_little_noise_neighbours_count_less():
    """At σ = gate half of what the neighbours say counts, next to nothing far below; older weights have no gate."""
    x = torch.randn((1, 3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    moved = torch.cat([x[:, :, :2], x[:, :, 2:] + 1], dim=2)
    network = grown(VideoDenoiser(SMALL))

    def heard(gate, phase):
        network.config = replace(SMALL, gate=gate)
        return float((network(moved, torch.tensor([phase])) - network(x, torch.tensor([phase])))[:, :, 1].norm())

    assert heard(8.0, 0.01) < 0.2 * heard(0.0, 0.01)
    assert heard(8.0, 0.6) > 0.8 * heard(0.0, 0.6) > 0
    stored = {name: value for name, value in SMALL.as_dict().items() if name != "gate"}
    assert DenoiserConfig.from_dict(stored).gate == 0
