"""The conformance suite passes for the embedded adapter and says, in words, what is wrong with broken ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nc_refiner import NoiseLevel
from nc_refiner.adapters import conformance
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.assets import demo_clip
from nc_refiner.video import read_clip


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return read_clip(demo_clip()[1], max_frames=4).frames[:, :, 32:128, 64:192].contiguous()


def test_embedded_conforms(embedded, frames):
    report = conformance.check(embedded, frames, trained=True, lossless=True)
    report.raise_for_failures()
    assert set(report.results) == {
        "layout", "random state", "state restored", "identity", "noise level matches step", "fixed point",
        "round trip", "estimate", "latent windows", "frequencies",
    }  # fmt: skip


class WrongFormula(EmbeddedRefiner):
    """Takes the network's x₀ for an epsilon-prediction."""

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        level = self.noise_level(timestep)
        return (x_t - level.sigma * super().predict_x0(x_t, timestep, condition)) / level.alpha


class WrongAlpha(EmbeddedRefiner):
    """Reports a signal scale that is a fifth too small."""

    def noise_level(self, timestep):
        level = super().noise_level(timestep)
        return NoiseLevel(0.8 * level.alpha, level.sigma)


class GlobalRandomness(EmbeddedRefiner):
    """Samples its latents from the global generator, as many hosts' encoders do."""

    def encode(self, frames, generator=None):
        latents = super().encode(frames, generator)
        return latents + 1e-3 * torch.randn_like(latents)


class StateNotRestored(EmbeddedRefiner):
    """Counts its predictions as a multistep scheduler does, and lets the count decide what comes out."""

    calls = 0

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        self.calls += 1
        return super().predict_x0(x_t, timestep, condition) * (1 + 1e-3 * self.calls)


class NotTheIdentity(EmbeddedRefiner):
    """Improves on SDEdit by itself: a control that is no control."""

    def denoise(self, x_t, timesteps, condition, **options):
        return super().denoise(x_t * 1.01, timesteps, condition, **options)


class WrongLayout(EmbeddedRefiner):
    """Hands out (B, F, C, H, W)."""

    def encode(self, frames, generator=None):
        return super().encode(frames, generator).transpose(1, 2).contiguous()


class PackedPixels(EmbeddedRefiner):
    """Latents are 48 planes of every fourth pixel, as this refiner's once were: ν means nothing there."""

    def encode(self, frames, generator=None):
        return pack(super().encode(frames, generator))

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        return pack(super().predict_x0(unpack(x_t), timestep, condition))

    def decode(self, latents):
        return super().decode(unpack(latents))


def pack(pixels):
    return functional.pixel_unshuffle(pixels.transpose(1, 2), 4).transpose(1, 2)


def unpack(planes):
    return functional.pixel_shuffle(planes.transpose(1, 2), 4).transpose(1, 2)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (WrongFormula, "estimate", "x0 formula or noise_level is off"),
        (WrongAlpha, "estimate", "noise_level is off"),
        (GlobalRandomness, "random state", "global random state"),
        (StateNotRestored, "state restored", "state"),
        (NotTheIdentity, "identity", "not plain SDEdit"),
        (PackedPixels, "frequencies", "another layout than the picture's"),
        (WrongLayout, "layout", r"\(1, C, F, H, W\)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_broken_adapters_fail_readably(broken, check, words, frames):
    report = conformance.check(broken(device="cpu"), frames, trained=True, lossless=True)
    assert check in report.failures
    with pytest.raises(conformance.ConformanceError, match=words):
        report.raise_for_failures()
    assert "\n" not in report.failures[check]


def test_packed_pixels_are_otherwise_sound(frames):
    """So the check is needed: nothing else in the suite sees the layout."""
    assert set(conformance.check(PackedPixels(device="cpu"), frames, trained=True, lossless=True).failures) == {
        "frequencies"
    }


def test_checks_leave_the_global_random_state_alone(embedded, global_rng_untouched):
    assert conformance.check(embedded).passed
