"""Windows blended in latent space: where they lie, what they weigh, and whole clips refined through them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nc_refiner import CalibratedRefiner, NoiseCalibration, RefineSettings, VideoClip
from nc_refiner.adapters.embedded import EmbeddedRefiner
from nc_refiner.refining.conformance import check
from nc_refiner.refining.latent_windows import LatentWindows
from nc_refiner.refining.windows import frame_noise, seams, window_starts, window_weights
from tests.small_embedded import small_weights

SETTINGS: dict[str, Any] = {"strength": 0.5, "num_inference_steps": 6}
STEPS = 3
WINDOWED = {"window": 6, "overlap": 2}
PIECES = [0, 4, 7]


class HeunRefiner(EmbeddedRefiner):
    """The embedded network under a solver of its own that takes noise on the way: it owns its trajectory."""

    name = "heun"
    owns_trajectory = True

    def step(self, *args: Any, **kwargs: Any) -> Tensor:
        raise AssertionError("a solver that owns its trajectory has no step")

    def denoise(self, x_t, timesteps, condition, *, guidance_scale=None, generator=None, first_x0=None, on_step=None):
        for index, timestep in enumerate(timesteps):
            reuse = index == 0 and first_x0 is not None
            x0 = first_x0 if reuse else self.predict_x0(x_t, timestep, condition, guidance_scale)
            if index + 1 < len(timesteps):
                following = timesteps.values[index + 1]
                level, lower = self.noise_level(timestep), self.noise_level(following)
                ahead = lower.add_noise(x0, level.noise_in(x_t, x0))
                x0 = (x0 + self.predict_x0(ahead, following, condition)) / 2
                fresh = torch.randn(x0.shape, generator=generator)
                x_t = lower.add_noise(x0, 0.8 * level.noise_in(x_t, x0) + 0.6 * fresh)
            else:
                x_t = x0
            if on_step is not None:
                on_step()
        return x_t


@pytest.fixture(scope="module")
def heun() -> HeunRefiner:
    return HeunRefiner(weights=small_weights(), device="cpu")


@pytest.fixture(scope="module")
def clip() -> VideoClip:
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    frames = [
        torch.stack([0.5 + 0.4 * torch.sin(9 * x + t / 3), 0.5 + 0.3 * torch.cos(7 * y + t), x * y]) for t in range(13)
    ]
    return VideoClip(torch.stack(frames).clamp(0, 1), fps=12)


@given(count=st.integers(1, 80), window=st.integers(1, 20), data=st.data())
def test_windows_cover_every_frame_and_share_what_was_asked(count, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    starts = window_starts(count, window, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, count - window)
    assert all(0 < after - before <= window - overlap for before, after in pairwise(starts))
    # Fewer could not: each further window brings at most `window - overlap` new frames.
    assert len(starts) == 1 or window + (len(starts) - 2) * (window - overlap) < count
    covered = {frame for start in starts for frame in range(start, min(count, start + window))}
    assert covered == set(range(count))


@given(count=st.integers(1, 80), window=st.integers(1, 20), data=st.data())
def test_weights_are_a_smooth_partition_of_unity(count, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    window = min(window, count)
    starts = window_starts(count, window, min(overlap, window - 1))
    weights = window_weights(starts, window)
    total, covers = torch.zeros(count, dtype=torch.float64), torch.zeros(count)
    for start, weight in zip(starts, weights, strict=True):
        assert weight.shape == (window,) and bool((weight > 0).all()) and bool((weight <= 1).all())
        total[start : start + window] += weight.double()
        covers[start : start + window] += 1
    assert torch.allclose(total, torch.ones(count, dtype=torch.float64), atol=1e-6)
    for start, weight in zip(starts, weights, strict=True):
        assert bool((weight[covers[start : start + window] == 1] == 1).all())
    if overlap <= window // 2:
        first = weights[0][window - overlap :] if len(starts) > 1 else torch.ones(0)
        assert bool((first.diff() < 0).all())


def test_weights_by_hand():
    first, second = window_weights([0, 3], 6)
    rising = torch.sin(torch.pi / 2 * torch.tensor([0.25, 0.5, 0.75])) ** 2
    assert torch.allclose(second, torch.cat([rising, torch.ones(3)]))
    assert torch.allclose(first, torch.cat([torch.ones(3), 1 - rising]))


def test_seams_are_the_frames_that_neighbours_share():
    assert seams([(0, 6), (4, 6), (7, 6)]) == [[4, 5], [7, 9]]
    assert seams([(0, 4), (4, 4)]) == [[3, 4]]
    assert seams([(0, 4)]) == []


def test_identical_content_of_overlapping_windows_stays_as_it_is(small_embedded):
    """Where every window says the same of a frame, blending says it too."""

    class Still(EmbeddedRefiner):
        def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
            return 0.5 * x_t

    windows = LatentWindows(Still(weights=small_weights(), device="cpu"), 13, 6, 2)
    x_t = frame_noise((1, 3, 13, 16, 16), 3, 0)
    assert torch.allclose(windows.predict_x0(x_t, torch.tensor(500), None), 0.5 * x_t, atol=1e-6)


@pytest.mark.parametrize("adapter", ["small_embedded", "heun"])
@pytest.mark.parametrize("reuse", [False, True])
def test_a_single_window_is_the_adapter_itself_bit_for_bit(request, adapter, reuse, clip):
    adapter = request.getfixturevalue(adapter)
    windows = LatentWindows(adapter, 13, 32, 4)
    timesteps = adapter.timesteps(6, 0.5)
    reference = adapter.encode(clip.frames)
    x_t = adapter.noise_level(timesteps.first).add_noise(reference, frame_noise(tuple(reference.shape), 3, 0))
    x0 = adapter.predict_x0(x_t, timesteps.first, None)
    assert torch.equal(windows.predict_x0(x_t, timesteps.first, None), x0)
    found = [
        model.denoise(x_t, timesteps, None, generator=torch.Generator().manual_seed(1), first_x0=x0 if reuse else None)
        for model in (adapter, windows)
    ]
    assert torch.equal(*found)


def test_a_clip_of_one_window_does_not_know_of_them(small_embedded, clip):
    refiner = CalibratedRefiner(small_embedded, NoiseCalibration(iterations=2))
    whole = refiner(clip, seed=3, **SETTINGS)
    for settings in ({"window": 13}, {"max_latents_gib": 0.0}, {"window": 20, "overlap": 9}):
        assert torch.equal(refiner(clip, seed=3, **SETTINGS, **settings).clip.frames, whole.clip.frames)
    assert whole.receipt["degradations"] == [] and whole.receipt["seams"] == []
    assert [(w["first"], w["frames"]) for w in whole.receipt["windows"]] == [(0, 13)]


def by_hand(adapter, clip: VideoClip, seed: int, iterations: int) -> Tensor:
    """Whole-clip calibration at cutoff 1 and blended denoising, in a few lines of float64 weights."""
    ramp = torch.ones(len(PIECES), 6, dtype=torch.float64)
    for seam, (first, last) in enumerate([[4, 5], [7, 9]]):
        width = last - first + 1
        for i in range(width):
            up = float(torch.sin(torch.tensor((i + 1) / (width + 1) * torch.pi / 2, dtype=torch.float64)) ** 2)
            ramp[seam, first + i - PIECES[seam]] = 1 - up
            ramp[seam + 1, first + i - PIECES[seam + 1]] = up

    def predict(x_t: Tensor, timestep: Tensor) -> Tensor:
        x0 = torch.zeros(x_t.shape, dtype=torch.float64)
        for start, weight in zip(PIECES, ramp, strict=True):
            piece = adapter.predict_x0(x_t[:, :, start : start + 6], timestep, None)
            x0[:, :, start : start + 6] += piece.double() * weight.view(-1, 1, 1)
        return x0.float()

    timesteps = adapter.timesteps(SETTINGS["num_inference_steps"], SETTINGS["strength"])
    reference, level = adapter.encode(clip.frames), adapter.noise_level(timesteps.first)
    x_t = level.add_noise(reference, frame_noise(tuple(reference.shape), seed, 0))
    for _ in range(iterations):
        x_t = x_t - level.alpha * (predict(x_t, timesteps.first) - reference)
    for index, timestep in enumerate(timesteps):
        x_t = adapter.step(x_t, predict(x_t, timestep), timesteps, index)
    return adapter.decode(x_t)


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_whole_clip_is_calibrated_and_every_step_is_blended(small_embedded, clip, iterations, global_rng_untouched):
    config = NoiseCalibration(iterations=iterations, cutoff=1.0, reuse_prediction=False)
    refiner = CalibratedRefiner(small_embedded, config)
    result = refiner(clip, seed=3, **SETTINGS, **WINDOWED)
    assert torch.allclose(result.clip.frames, by_hand(small_embedded, clip, 3, iterations), atol=2e-5)
    assert result.receipt["evaluations"] == {"calibration": 3 * iterations, "denoising": 3 * STEPS}
    assert result.receipt["windows"] == [{"first": first, "frames": 6} for first in PIECES]
    assert result.receipt["seams"] == [[4, 5], [7, 9]]
    assert len(result.trace.content_loss) == iterations
    assert json.loads(json.dumps(result.receipt)) == result.receipt


@pytest.mark.parametrize("adapter", ["small_embedded", "heun"])
def test_without_a_band_it_is_sdedit_with_the_same_windows_bit_for_bit(request, adapter, clip):
    adapter = request.getfixturevalue(adapter)
    timesteps = adapter.timesteps(6, 0.5)
    reference = adapter.encode(clip.frames)
    x_t = adapter.noise_level(timesteps.first).add_noise(reference, frame_noise(tuple(reference.shape), 3, 0))
    latents = LatentWindows(adapter, 13, 6, 2).denoise(
        x_t, timesteps, None, generator=torch.Generator().manual_seed(3 + 1)
    )
    for plain in ({"iterations": 0}, {"cutoff": 0.0}):
        result = CalibratedRefiner(adapter, NoiseCalibration(**plain))(clip, seed=3, **SETTINGS, **WINDOWED)
        assert torch.equal(result.clip.frames, adapter.decode(latents))
        assert result.receipt["evaluations"]["calibration"] == 0


def test_a_solver_of_its_own_runs_each_window_and_their_ends_are_blended(heun, clip):
    refiner = CalibratedRefiner(heun, NoiseCalibration(iterations=1))
    calls: list[str] = []
    result = refiner(clip, seed=3, on_step=calls.append, **SETTINGS, **WINDOWED)
    assert result.receipt["evaluations"] == {"calibration": 3, "denoising": 3 * (2 * STEPS - 2)}
    assert calls == ["calibrate"] * 3 + ["denoise"] * 3 * STEPS
    assert "each denoised to its end" in result.receipt["degradations"][0]
    assert torch.equal(result.clip.frames, refiner(clip, seed=3, **SETTINGS, **WINDOWED).clip.frames)
    plain = refiner.with_calibration(iterations=0)(clip, seed=3, **SETTINGS, **WINDOWED)
    assert (result.clip.frames - clip.frames).square().mean() < (plain.clip.frames - clip.frames).square().mean()


@pytest.mark.parametrize(("adapter", "per_window"), [("small_embedded", STEPS - 1), ("heun", 2 * STEPS - 2)])
def test_reuse_saves_one_evaluation_of_every_window(request, adapter, per_window, clip):
    adapter = request.getfixturevalue(adapter)
    refiner = CalibratedRefiner(adapter, NoiseCalibration(iterations=1))
    calls: list[str] = []
    result = refiner(clip, seed=3, on_step=calls.append, **SETTINGS, **WINDOWED)
    assert result.receipt["evaluations"] == {"calibration": 3, "denoising": 3 * per_window}
    assert len(calls) == refiner.refinement(RefineSettings(**SETTINGS, **WINDOWED)).steps_for(13) == 3 * (1 + STEPS)


def test_tolerance_stops_the_whole_clip_at_once(small_embedded, clip):
    refiner = CalibratedRefiner(small_embedded, NoiseCalibration(iterations=3))
    losses = refiner(clip, seed=3, **SETTINGS, **WINDOWED).trace.content_loss
    early = refiner.with_calibration(tolerance=(losses[0] + losses[1]) / 2)(clip, seed=3, **SETTINGS, **WINDOWED)
    assert early.trace.content_loss == losses[:2]
    assert early.receipt["evaluations"] == {"calibration": 6, "denoising": 3 * (STEPS - 1)}


def streamed(adapter, clip: VideoClip, count: int | None, **settings: Any):
    run = CalibratedRefiner(adapter, NoiseCalibration(iterations=1)).refinement(RefineSettings(**SETTINGS, **settings))
    return torch.cat(list(run.run(iter(clip.frames), count))), run.receipt()


def test_what_cannot_be_held_streams_and_the_receipt_says_why(small_embedded, clip, monkeypatch):
    latents, receipt = streamed(small_embedded, clip, 13, **WINDOWED)
    assert "blended in latent space" in receipt["degradations"][0]
    size = 13 * clip.frames[0].numel() * 4 / 2**30
    cases = [
        (None, {}, {}, "the number of frames is not known"),
        (13, {"max_latents_gib": 0.0}, {}, "above max_latents_gib = 0"),
        (13, {"max_latents_gib": 0.99 * size}, {}, "its latents would take"),
        (13, {}, {"latent_windows": False}, "embedded does not take windows of latents"),
        (13, {}, {"min_frames": 8}, "embedded needs 8 frames at once"),
    ]
    outcomes = []
    for count, settings, needs, reason in cases:
        with monkeypatch.context() as patch:
            patch.setattr(small_embedded, "requirements", replace(small_embedded.requirements, **needs))
            frames, receipt = streamed(small_embedded, clip, count, **WINDOWED, **settings)
        assert len(frames) == 13 and not torch.equal(frames, latents)
        notes = [note for note in receipt["degradations"] if "faded in pixels" in note]
        assert len(notes) == 1 and reason in notes[0]
        assert [window["first"] for window in receipt["windows"]] == PIECES
        assert all(len(window["content_loss"]) == 1 for window in receipt["windows"])
        outcomes.append(frames)
    assert all(torch.equal(outcomes[0], frames) for frames in outcomes[1:4])
    exact, _ = streamed(small_embedded, clip, 13, **WINDOWED, max_latents_gib=1.01 * size)
    assert torch.equal(exact, latents)


def test_frames_are_encoded_and_decoded_a_window_at_a_time(clip):
    class Watched(EmbeddedRefiner):
        most = 0

        def encode(self, frames, generator=None):
            self.most = max(self.most, len(frames))
            return super().encode(frames, generator)

        def decode(self, latents):
            self.most = max(self.most, latents.shape[2])
            return super().decode(latents)

    adapter = Watched(weights=small_weights(), device="cpu")
    streamed(adapter, clip, 13, **WINDOWED)
    assert adapter.most == 6


def test_gradients_and_the_callers_mode_are_left_alone(small_embedded, clip):
    run = CalibratedRefiner(small_embedded, NoiseCalibration(iterations=1)).refinement(
        RefineSettings(**SETTINGS, **WINDOWED)
    )
    for block in run.run(iter(clip.frames), 13):
        assert torch.is_grad_enabled() and not block.requires_grad


def test_a_wrong_frame_count_changes_nothing_and_a_wrong_declaration_is_named(small_embedded, clip):
    frames, receipt = streamed(small_embedded, clip, 20, **WINDOWED)
    assert torch.equal(frames, streamed(small_embedded, clip, 13, **WINDOWED)[0])
    assert [window["first"] for window in receipt["windows"]] == PIECES
    short = VideoClip(clip.frames[:4])
    frames, receipt = streamed(small_embedded, short, 13, **WINDOWED)
    assert len(frames) == 4 and "only 4 of 13 frames came" in receipt["degradations"][0]
    run = CalibratedRefiner(small_embedded).refinement(RefineSettings(**SETTINGS, **WINDOWED))
    assert list(run.run(iter([]), 13)) == []

    class Compressing(EmbeddedRefiner):
        def encode(self, frames, generator=None):
            return super().encode(frames, generator)[:, :, ::2]

    with pytest.raises(RuntimeError, match="3 latent frames of 6 frames"):
        streamed(Compressing(weights=small_weights(), device="cpu"), clip, 13, **WINDOWED)
    with pytest.raises(ValueError, match="max_latents_gib"):
        RefineSettings(max_latents_gib=-1)


def test_conformance_of_what_latent_windows_promise(small_embedded):
    assert check(small_embedded, num_inference_steps=4).results["latent windows"] is None

    class Remembering(EmbeddedRefiner):
        """Conditions on the clip it encoded last, as image-to-video models do."""

        def encode(self, frames, generator=None):
            self.last = super().encode(frames, generator)
            return self.last

        def predict_x0(self, x_t, timestep, condition, guidance_scale=None):
            return super().predict_x0(x_t, timestep, condition, guidance_scale) + 0.1 * self.last.mean()

    failures = check(Remembering(weights=small_weights(), device="cpu"), num_inference_steps=4).failures
    assert "another clip" in failures["latent windows"]
