"""The conformance suite passes for the embedded adapter and says, in words, what is wrong with broken ones."""

from __future__ import annotations

import pytest
import torch

from nc_refiner import CalibratedRefiner, NoiseLevel, VideoClip
from nc_refiner.adapters.base import RefinerAdapter, Requirements, Timesteps
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.assets import demo_clip
from nc_refiner.refining import conformance
from nc_refiner.video import read_clip
from tests.small_embedded import small_weights


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return read_clip(demo_clip()[1], max_frames=4).frames[:, :, 32:96, 64:128].contiguous()


def test_embedded_conforms(embedded, frames):
    report = conformance.check(embedded, frames, trained=True, lossless=True)
    report.raise_for_failures()
    assert set(report.results) == {
        "layout", "random state", "state restored", "identity", "noise level matches step", "fixed point",
        "round trip", "estimate", "latent windows", "name and description", "timesteps", "decoded range",
        "evaluations", "no gradients", "reuse", "cutoff is a spatial frequency", "masks", "options beyond the paper",
        "hold",
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


class NoClamp(EmbeddedRefiner):
    """Hands out what the decoder made."""

    def decode(self, latents):
        return super().decode(latents) * 1.5 - 0.1


class NeverCounts(EmbeddedRefiner):
    """Calls its network unseen."""

    @property
    def evaluations(self):
        return 0

    @evaluations.setter
    def evaluations(self, count):
        pass


class Ascending(EmbeddedRefiner):
    """Runs its schedule from the clean end."""

    def timesteps(self, num_inference_steps, strength):
        found = super().timesteps(num_inference_steps, strength)
        return Timesteps(found.values.flip(0), found.num_inference_steps, found.strength)


class Nameless(EmbeddedRefiner):
    """Forgot its name."""

    name = ""


class OtherStrength(EmbeddedRefiner):
    """Says another strength than it was asked for."""

    def timesteps(self, num_inference_steps, strength):
        found = super().timesteps(num_inference_steps, strength)
        return Timesteps(found.values, found.num_inference_steps, strength / 2)


class IgnoresReuse(EmbeddedRefiner):
    """Its denoise makes the first prediction all the same."""

    def denoise(self, x_t, timesteps, condition, *, first_x0=None, **options):
        return super().denoise(x_t, timesteps, condition, **options)


class NoJson(EmbeddedRefiner):
    """Describes itself with a tensor."""

    def describe(self):
        return {**super().describe(), "scale": torch.ones(1)}


class Folded(EmbeddedRefiner):
    """Folds space into channels, where a low-pass is none of the picture."""

    def encode(self, frames, generator=None):
        found = super().encode(frames, generator)
        return torch.nn.functional.pixel_unshuffle(found[0].transpose(0, 1), 4).transpose(0, 1)[None]

    def _unfolded(self, x):
        return torch.nn.functional.pixel_shuffle(x[0].transpose(0, 1), 4).transpose(0, 1)[None]

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        found = super().predict_x0(self._unfolded(x_t), timestep, condition, guidance_scale)
        return torch.nn.functional.pixel_unshuffle(found[0].transpose(0, 1), 4).transpose(0, 1)[None]

    def decode(self, latents):
        return super().decode(self._unfolded(latents))


class KeepsGraph(EmbeddedRefiner):
    """Runs with gradients on."""

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        found = super().predict_x0(x_t, timestep, condition, guidance_scale)
        return found * torch.nn.Parameter(torch.ones(())) if torch.is_grad_enabled() else found


class IgnoresHold(EmbeddedRefiner):
    """Takes `hold` and forgets it."""

    def denoise(self, x_t, timesteps, condition, *, hold=None, **options):
        return super().denoise(x_t, timesteps, condition, **options)


class KnowsAMask(EmbeddedRefiner):
    """Estimates otherwise every second time, as one might that looks whether there is a mask."""

    odd = 0

    def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
        self.odd += 1
        return super().predict_x0(x_t, timestep, condition) * (1 + 1e-3 * (self.odd // 12))


class CannotHold(EmbeddedRefiner):
    """Written before there was `hold`."""

    def denoise(self, x_t, timesteps, condition, *, guidance_scale=None, generator=None, first_x0=None, on_step=None):
        return super().denoise(x_t, timesteps, condition, first_x0=first_x0, on_step=on_step)


def test_an_adapter_that_cannot_hold_is_refused_and_works_without(frames):
    made = CannotHold(weights=small_weights(), device="cpu")
    assert conformance.check(made, frames, only=["hold", "identity", "masks"]).results == {
        "identity": None,
        "masks": None,
    }
    refiner = CalibratedRefiner(made).with_calibration(hold=0.5)
    with pytest.raises(ValueError, match="embedded cannot: its denoise takes no `hold`"):
        refiner(VideoClip(frames), strength=0.2, num_inference_steps=10, seed=1)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (WrongFormula, "estimate", "x0 formula or noise_level is off"),
        (WrongAlpha, "estimate", "noise_level is off"),
        (GlobalRandomness, "random state", "global random state"),
        (StateNotRestored, "state restored", "state"),
        (NotTheIdentity, "identity", "not plain SDEdit"),
        (WrongLayout, "layout", r"\(1, C, F, H, W\)"),
        (NoClamp, "decoded range", "clamp"),
        (NeverCounts, "evaluations", "adds nothing"),
        (Ascending, "timesteps", "noise rises"),
        (Nameless, "name and description", "lower-case name"),
        (OtherStrength, "timesteps", r"timesteps\(8, 0.5\) says 8 steps at strength 0.25"),
        (IgnoresReuse, "reuse", "first_x0"),
        (NoJson, "name and description", "no JSON"),
        (Folded, "cutoff is a spatial frequency", "no places in the picture"),
        (KeepsGraph, "no gradients", "MiB for gradients"),
        (IgnoresHold, "hold", "asked at each"),
        (KnowsAMask, "masks", "a mask of ones gives another result"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_broken_adapters_fail_readably(broken, check, words, frames):
    adapter = broken(weights=None if check == "estimate" else small_weights(), device="cpu")
    report = conformance.check(adapter, frames, trained=True, lossless=True, only=[check])
    assert list(report.failures) == [check]
    with pytest.raises(conformance.ConformanceError, match=words):
        report.raise_for_failures()
    assert "\n" not in report.failures[check]


def test_checks_leave_the_global_random_state_alone(small_embedded, global_rng_untouched):
    assert conformance.check(small_embedded, only=["random state", "layout", "reuse"]).passed


class EndsWithNoise(EmbeddedRefiner):
    """Ends at its timestep 0, where a little noise is left, as many samplers do."""

    def step(self, x_t, x0, timesteps, index, generator=None):
        if index + 1 < len(timesteps):
            return super().step(x_t, x0, timesteps, index, generator)
        noise = self.noise_level(timesteps.values[index]).noise_in(x_t, x0)
        return NoiseLevel(0.9999, 0.0125).add_noise(x0, noise)


class EndsTooEarly(EndsWithNoise):
    """Leaves a tenth of the noise in."""

    def step(self, x_t, x0, timesteps, index, generator=None):
        if index + 1 < len(timesteps):
            return super().step(x_t, x0, timesteps, index, generator)
        return NoiseLevel(0.99, 0.14).add_noise(x0, self.noise_level(timesteps.values[index]).noise_in(x_t, x0))


def test_a_host_may_end_at_its_timestep_0(frames):
    only = ["noise level matches step", "identity"]
    conformance.check(EndsWithNoise(weights=small_weights(), device="cpu"), frames, only=only).raise_for_failures()
    report = conformance.check(EndsTooEarly(weights=small_weights(), device="cpu"), frames, only=only)
    assert "the timesteps end too early" in report.failures["noise level matches step"]


class Mute(EmbeddedRefiner):
    """Says it takes prompts and has the default `condition`."""

    requirements = Requirements(default_steps=4)

    def condition(self, *args, **kwargs):
        raise AssertionError


Mute.condition = RefinerAdapter.condition


def test_a_prompt_nobody_reads_is_noted(frames):
    made = Mute(weights=small_weights(), device="cpu")
    made.requirements = Requirements(default_steps=4, default_strength=0.3)
    result = CalibratedRefiner(made)(VideoClip(frames), prompt="a camel", seed=0)
    assert any("prompt ignored" in note for note in result.receipt["degradations"])
