"""The single checks of `conformance`, on one adapter with everything they share."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy
import torch
from torch import Tensor

from ..adapters import registry
from ..adapters.base import RefinerAdapter, Timesteps
from ..calibration import NoiseCalibration, calibrate
from ..frequency import LowPass
from .run import Refinement
from .settings import RefineSettings
from .windows import frame_noise

__all__ = ["Bench", "Fault"]

_LEAST_NOISE = 0.05
"""The noise that a host may leave at its last timestep, against 1 for pure noise."""


class Fault(Exception):
    """An adapter does not do what a check demands; the message says what and why."""


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).double().norm() / wanted.double().norm().clamp_min(1e-12))


def _numpy_state() -> tuple[bytes, int]:
    state = numpy.random.get_state(legacy=False)["state"]
    return state["key"].tobytes(), state["pos"]


@contextmanager
def _global_random_state(seed: int) -> Iterator[Callable[[], bool]]:
    """Sets the global generators, offers a test whether they moved, and puts everything back."""
    saved = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    start = torch.get_rng_state(), random.getstate(), _numpy_state()

    def moved() -> bool:
        now = torch.get_rng_state(), random.getstate(), _numpy_state()
        return not (torch.equal(start[0], now[0]) and start[1:] == now[1:])

    try:
        yield moved
    finally:
        torch.set_rng_state(saved[0])
        random.setstate(saved[1])
        numpy.random.set_state(saved[2])


class Bench:
    """One adapter on the bench with everything the checks share."""

    def __init__(self, adapter: RefinerAdapter, frames: Tensor, steps: int, strength: float, tolerance: float):
        self.adapter, self.frames, self.tolerance = adapter, frames, tolerance
        self.settings = RefineSettings(strength=strength, num_inference_steps=steps, seed=7)
        self.steps, self.strength = steps, strength

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(11)

    def _timesteps(self) -> Timesteps:
        return self.adapter.timesteps(self.steps, self.strength)

    def _noisy(self) -> tuple[Tensor, Tensor, Tensor]:
        reference = self.adapter.encode(self.frames, self._generator())
        noise = torch.randn(reference.shape, generator=self._generator()).to(reference)
        return reference, noise, self.adapter.noise_level(self._timesteps().first).add_noise(reference, noise)

    def _refined(self, **calibration: float | int) -> Tensor:
        run = Refinement(self.adapter, NoiseCalibration(**calibration), self.settings)  # type: ignore[arg-type]
        return torch.cat(list(run.run(self.frames, len(self.frames))))

    def name_and_description(self) -> None:
        """The name is the registered one, and the receipt can be written."""
        name = self.adapter.name
        if not isinstance(name, str) or not name or name != name.strip().lower():
            raise Fault(f"name is {name!r}; it must be the lower-case name the adapter is registered under")
        others = [known for known, factory in registry.registered().items() if factory is type(self.adapter)]
        if others and name not in others:
            raise Fault(f"name is {name!r}, but the adapter is registered as {others[0]!r}; they must be the same")
        try:
            json.dumps(self.adapter.describe())
        except (TypeError, ValueError) as error:
            raise Fault(f"describe() is no JSON ({error}); the receipt could not be written") from None

    def timesteps(self) -> None:
        """What was asked for stands in the answer, and noise falls."""
        found = self._timesteps()
        asked, told = (self.steps, self.strength), (found.num_inference_steps, found.strength)
        if told != asked:
            raise Fault(f"timesteps({asked[0]}, {asked[1]}) says {told[0]} steps at strength {told[1]}; give back both")
        try:
            ratios = [level.sigma / max(level.alpha, 1e-12) for level in map(self.adapter.noise_level, found)]
        except ValueError:  # a host may know the level of its start alone
            ratios = [float(value) for value in found]
        if any(later > earlier * (1 + 1e-6) for earlier, later in pairwise(ratios)):
            raise Fault("the noise rises along the timesteps; they must run from the noisiest to the least noisy")

    def decoded_range(self) -> None:
        """Frames are float32 in [0, 1] on the CPU, whatever the latents."""
        decoded = self.adapter.decode(4 * self.adapter.encode(self.frames, self._generator()))
        if decoded.dtype != torch.float32 or decoded.device.type != "cpu":
            raise Fault(f"decode returned {decoded.dtype} on {decoded.device}; it must return float32 on the CPU")
        low, high = float(decoded.min()), float(decoded.max())
        if not (low >= 0 and high <= 1):
            raise Fault(f"decode returned values from {low:.3g} to {high:.3g}; it must clamp to [0, 1]")

    def evaluations(self) -> None:
        """Calls of the network are counted, in predictions and in the denoising."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        _, _, x_t = self._noisy()
        start = self.adapter.evaluations
        self.adapter.predict_x0(x_t, timesteps.first, condition)
        predicted = self.adapter.evaluations
        self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if not (predicted > start and self.adapter.evaluations > predicted):
            raise Fault("predict_x0 or denoise adds nothing to `evaluations`; add 1 where the network is called")

    def no_gradients(self) -> None:
        """Nothing is kept for a backward pass, also where the caller leaves gradients on."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        _, _, x_t = self._noisy()
        kept: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = self.adapter.predict_x0(x_t, timesteps.first, condition)
            done = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if kept or found.requires_grad or done.requires_grad:
            raise Fault(
                f"predict_x0 or denoise keeps {sum(kept) / 2**20:.1f} MiB for gradients; run the network under "
                "torch.no_grad()"
            )

    def reuse(self) -> None:
        """`first_x0` takes the place of the first prediction, unless the adapter says that it cannot."""
        if not self.adapter.can_reuse:
            return
        timesteps, condition = self._timesteps(), self.adapter.condition()
        reference, _, x_t = self._noisy()
        outcomes, counts = [], []
        for first in (None, self.adapter.predict_x0(x_t, timesteps.first, condition), reference):
            if first is not None:
                self.adapter.predict_x0(x_t, timesteps.first, condition)
            before = self.adapter.evaluations
            outcomes.append(
                self.adapter.denoise(x_t, timesteps, condition, generator=self._generator(), first_x0=first)
            )
            counts.append(self.adapter.evaluations - before)
        if counts[1] >= counts[0]:
            raise Fault("denoise with first_x0 evaluates as often as without; it must not make the first prediction")
        if torch.equal(outcomes[1], outcomes[2]):
            raise Fault("denoise gives the same result for two different first_x0; it must step from the one given")

    def spatial_frequency(self) -> None:
        """A reference that differs only above ν leaves the calibrated low band alone, seen through `decode`.

        For latents that are the pixels themselves: packed into planes they would hold as many numbers, but a low-pass
        over them would be none of the picture. A VAE's latents have a grid of their own and are passed over.
        """
        cutoff, timesteps, condition = 0.5, self._timesteps(), self.adapter.condition()
        frames = 0.25 + 0.5 * self.frames
        reference = self.adapter.encode(frames, self._generator())
        if reference.numel() != frames.numel():
            return
        fine = torch.randn(frames.shape, generator=self._generator())
        fine = fine - LowPass(frames.shape[-2], frames.shape[-1], cutoff + 0.1)(fine)
        fine = fine * (0.2 / float(fine.abs().max().clamp_min(1e-12)))
        other = self.adapter.encode(frames + fine, self._generator())
        level = self.adapter.noise_level(timesteps.first)
        noise = torch.randn(reference.shape, generator=self._generator()).to(reference)
        x_t = level.add_noise(reference, noise)
        config = NoiseCalibration(iterations=1, cutoff=cutoff)
        plain, moved = (
            calibrate(x_t, wanted, level, lambda x: self.adapter.predict_x0(x, timesteps.first, condition), config).x_t
            for wanted in (reference, other)
        )
        seen = self.adapter.decode(reference + (moved - plain) / level.alpha) - self.adapter.decode(reference)
        share = float(seen.double().norm() / fine.double().norm().clamp_min(1e-12))
        if not share <= 0.05:
            raise Fault(
                f"a reference that differs only above {cutoff + 0.1:g} of the picture's Nyquist frequency moves the "
                f"clip by {share:.0%} of that difference through the band below {cutoff:g}; the latents' height and "
                "width are no places in the picture (packed? unpack them in encode and decode)"
            )

    def layout(self) -> None:
        """Latents are (1, C, F', H', W'): what changes early in the clip moves the latents earlier than what changes
        late, and so for top and bottom, left and right. Compared as centres, since a VAE sees beyond an edge."""
        base = self.adapter.encode(self.frames, self._generator())
        if base.ndim != 5 or base.shape[0] != 1:
            raise Fault(f"encode must return (1, C, F, H, W), found {tuple(base.shape)}")
        for axis, frame_axis in ((2, 0), (3, 2), (4, 3)):
            if base.shape[axis] < 2:
                continue
            start, end = (self._centre_of_change(base, axis, frame_axis, at_end) for at_end in (False, True))
            if not end - start > 0.1 * (base.shape[axis] - 1):
                raise Fault(
                    f"changing the clip at the start and at the end of its axis {frame_axis} moves latent axis {axis} "
                    f"around {start:.1f} and {end:.1f}; encode must return (1, C, F, H, W), found {tuple(base.shape)}"
                )
        decoded = self.adapter.decode(base)
        if decoded.shape != self.frames.shape:
            raise Fault(f"decode returned {tuple(decoded.shape)} for a clip of {tuple(self.frames.shape)}")

    def _centre_of_change(self, base: Tensor, axis: int, frame_axis: int, at_end: bool) -> float:
        changed = self.frames.clone()
        length = changed.shape[frame_axis]
        width = max(1, length // base.shape[axis])
        edge = changed.narrow(frame_axis, length - width if at_end else 0, width)
        edge.copy_(1 - edge)
        difference = (self.adapter.encode(changed, self._generator()) - base).abs()
        moved = difference.double().sum(dim=[d for d in range(5) if d != axis]).cpu()
        return float((moved * torch.arange(len(moved))).sum() / moved.sum().clamp_min(1e-12))

    def random_state(self) -> None:
        """No hook reads or moves a global generator."""
        outputs = []
        for seed in (1, 2):
            with _global_random_state(seed) as moved:
                outputs.append(self._refined(iterations=1))
                if moved():
                    raise Fault("a hook used a global random state; use the generator it is given")
        if not torch.equal(*outputs):
            raise Fault("two runs with the same seed differ under another global seed")

    def state_restored(self) -> None:
        """Predictions leave no trace: neither in further predictions nor in the denoising that follows."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        _, _, x_t = self._noisy()
        before = x_t.clone()
        untouched = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if not torch.equal(before, x_t):
            raise Fault("denoise wrote into the x_t it was given")
        first = self.adapter.predict_x0(x_t, timesteps.first, condition).clone()
        second = self.adapter.predict_x0(x_t, timesteps.first, condition)
        if not torch.equal(before, x_t):
            raise Fault("predict_x0 wrote into the x_t it was given")
        if not torch.equal(first, second):
            raise Fault("predict_x0 gave another estimate the second time; it must not keep state")
        after = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if not torch.equal(untouched, after):
            raise Fault("denoise gave another result after predict_x0 was called; state was not restored")

    def identity(self) -> None:
        """N = 0 and an empty low band are SDEdit written out by hand from the adapter's own hooks, bit for bit."""
        plain = self._refined(iterations=0)
        if not torch.equal(plain, self._refined(iterations=3, cutoff=0.0)):
            raise Fault("cutoff=0 and iterations=0 give different results")
        if not torch.equal(plain, self._by_hand()):
            raise Fault("iterations=0 is not plain SDEdit: encode, add noise, predict_x0 and step in turn, decode")

    def _by_hand(self) -> Tensor:
        adapter, timesteps, condition = self.adapter, self._timesteps(), self.adapter.condition()
        generator = torch.Generator().manual_seed(self.settings.seed + 1)
        reference = adapter.encode(self.frames, generator)
        noise = frame_noise(tuple(reference.shape), self.settings.seed, 0, reference.device).to(reference.dtype)
        x_t = adapter.noise_level(timesteps.first).add_noise(reference, noise)
        if adapter.owns_trajectory:
            return adapter.decode(adapter.denoise(x_t, timesteps, condition, generator=generator))
        for index, timestep in enumerate(timesteps):
            x_t = adapter.step(x_t, adapter.predict_x0(x_t, timestep, condition), timesteps, index, generator)
        return adapter.decode(x_t)

    def latent_windows(self) -> None:
        """One latent frame per frame, and estimates that do not depend on what was encoded last."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        _, _, x_t = self._noisy()
        if x_t.shape[2] != len(self.frames):
            raise Fault(f"{len(self.frames)} frames have {x_t.shape[2]} latent frames; latent_windows needs as many")
        before = self.adapter.predict_x0(x_t, timesteps.first, condition).clone()
        self.adapter.encode(1 - self.frames.flip(0), self._generator())
        if not torch.equal(before, self.adapter.predict_x0(x_t, timesteps.first, condition)):
            raise Fault("the estimate changed after another clip was encoded; declare latent_windows = False")

    def step_consistency(self) -> None:
        """`step`, told the true x₀, ends at x₀ or with next to no noise left in it, and on the way keeps to the level
        that `noise_level` states."""
        timesteps = self._timesteps()
        reference, noise, x_t = self._noisy()
        current = x_t
        for index in range(len(timesteps)):
            current = self.adapter.step(current, reference, timesteps, index, self._generator())
            if index == 0 and len(timesteps) > 1:
                self._check_next_level(current, reference, noise, timesteps)
        # A host may end at its timestep 0, where a little noise is left.
        left = float((current - reference).double().norm() / noise.double().norm().clamp_min(1e-12))
        if not left <= max(_LEAST_NOISE, self.tolerance):
            raise Fault(
                f"stepping with the true x0 leaves noise of scale {left:.2g} in it, above {_LEAST_NOISE}: either step "
                "or noise_level is off, or the timesteps end too early"
            )

    def _check_next_level(self, current: Tensor, reference: Tensor, noise: Tensor, timesteps: Timesteps) -> None:
        level = self.adapter.noise_level(timesteps.values[1])
        spread = float((current - level.alpha * reference).double().std())
        expected = level.sigma * float(noise.double().std())
        if abs(spread - expected) > 0.05 * max(expected, 1e-6):
            raise Fault(f"after one step the noise has scale {spread:.4g}; noise_level says {expected:.4g}")

    def fixed_point(self) -> None:
        """cutoff = 1, N = 1: the calibrated noise is the model's own ε."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        reference, _, x_t = self._noisy()
        level = self.adapter.noise_level(timesteps.first)

        def predict(latents: Tensor) -> Tensor:
            return self.adapter.predict_x0(latents, timesteps.first, condition)

        if predict(x_t).shape != x_t.shape:
            raise Fault(f"predict_x0 returned {tuple(predict(x_t).shape)} for latents {tuple(x_t.shape)}")
        epsilon = level.noise_in(x_t, predict(x_t))
        done = calibrate(x_t, reference, level, predict, NoiseCalibration(iterations=1, cutoff=1.0))
        error = _relative(level.noise_in(done.x_t, reference), epsilon)
        if not error <= self.tolerance:
            raise Fault(f"the calibrated noise is {error:.2g} (relative) away from the model's epsilon")

    def round_trip(self, allowed: float) -> None:
        """decode(encode(frames)) is the clip again."""
        decoded = self.adapter.decode(self.adapter.encode(self.frames, self._generator()))
        error = float((decoded - self.frames).abs().mean())
        if not error <= allowed:
            raise Fault(f"decode(encode(clip)) is {error:.2g} away from the clip on average; allowed {allowed}")

    def estimate(self) -> None:
        """At a moderate noise level, x̂₀ of a trained model removes most of the noise and has the reference's scale."""
        timesteps, condition = self.adapter.timesteps(self.steps * 4, self.strength), self.adapter.condition()
        reference, noise, _ = self._noisy()
        ratios = [self.adapter.noise_level(t) for t in timesteps]
        index = min(range(len(ratios)), key=lambda i: abs(ratios[i].sigma - 0.7 * ratios[i].alpha))
        level, timestep = ratios[index], timesteps.values[index]
        x_t = level.add_noise(reference, noise)
        found = self.adapter.predict_x0(x_t, timestep, condition)
        error, noisy = _relative(found, reference), _relative(x_t / level.alpha, reference)
        scale = float((found * reference).double().sum() / reference.double().square().sum())
        if not (error < 0.6 * noisy and abs(scale - 1) < 0.1):
            raise Fault(
                f"at timestep {float(timestep):g} the estimate is {error:.2g} (relative) away from the reference (the "
                f"noisy input is {noisy:.2g}) and {scale:.2f} times its size: the x0 formula or noise_level is off"
            )
