"""Checks that any adapter must pass, ours or a third party's. Needs no test framework:

>>> from nc_refiner.adapters import conformance, create
>>> report = conformance.check(create("embedded"))
>>> report.passed
True
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

from ..calibration import NoiseCalibration, calibrate
from ..frequency import LowPass
from ..refinement import Refinement, RefineSettings
from ..windows import frame_noise
from .base import RefinerAdapter, Timesteps

__all__ = ["ConformanceError", "ConformanceReport", "check"]


class ConformanceError(AssertionError):
    """Raised by `ConformanceReport.raise_for_failures`; the message lists every failed check and why."""


class _Failure(Exception):
    pass


@dataclass
class ConformanceReport:
    """Outcome of `check`: `results` maps each check to None (passed) or the reason it failed."""

    adapter: str
    results: dict[str, str | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failures

    @property
    def failures(self) -> dict[str, str]:
        """The failed checks with their reasons."""
        return {name: reason for name, reason in self.results.items() if reason is not None}

    def raise_for_failures(self) -> None:
        """Raise `ConformanceError` naming every failure; do nothing where all passed."""
        if self.failures:
            lines = "; ".join(f"{name}: {reason}" for name, reason in self.failures.items())
            raise ConformanceError(f"{self.adapter} does not conform. {lines}")


def check(
    adapter: RefinerAdapter,
    frames: Tensor | None = None,
    *,
    num_inference_steps: int = 8,
    strength: float = 0.5,
    trained: bool = False,
    lossless: bool | None = None,
    tolerance: float = 1e-5,
) -> ConformanceReport:
    """Run every check on `adapter` with a small clip.

    Args:
        adapter: the adapter; it must be usable as it is (device, weights).
        frames: `(F, 3, H, W)` in [0, 1] that already fits the adapter's requirements; made up where None. With
            `trained`, pass a piece of real video: a model need not know made-up pictures.
        num_inference_steps, strength: a short schedule with at least two steps.
        trained: also require that the estimate at a moderate noise level is near the reference, which only a
            trained model can meet; it is what tells a wrong x̂₀ formula or a wrong α from a right one.
        lossless: whether decode(encode(x)) must be x to 1e-5; None asks for 0.2 only (an untrained VAE: pass False
            to skip).
        tolerance: relative error allowed where equality is up to rounding.

    Returns:
        A report; it never raises for a failing adapter.
    """
    frames = _sample_frames(adapter) if frames is None else frames
    bench = _Bench(adapter, frames, num_inference_steps, strength, tolerance)
    checks: dict[str, Callable[[], None]] = {
        "layout": bench.layout,
        "random state": bench.random_state,
        "state restored": bench.state_restored,
        "identity": bench.identity,
        "fixed point": bench.fixed_point,
        "frequencies": bench.frequencies,
    }
    if not adapter.owns_trajectory:
        checks["noise level matches step"] = bench.step_consistency
    if adapter.requirements.latent_windows:
        checks["latent windows"] = bench.latent_windows
    if lossless is not False:
        checks["round trip"] = lambda: bench.round_trip(1e-5 if lossless else 0.2)
    if trained:
        checks["estimate"] = bench.estimate
    report = ConformanceReport(adapter.name or type(adapter).__name__)
    for name, run in checks.items():
        try:
            run()
            report.results[name] = None
        except _Failure as failure:
            report.results[name] = str(failure)
        except Exception as error:  # an adapter may fail in any way; the report must name the check it failed in
            report.results[name] = f"raised {type(error).__name__}: {error}"
    return report


def _sample_frames(adapter: RefinerAdapter) -> Tensor:
    """A smooth moving pattern with a little texture, the smallest that fits and is at least 64×64."""
    needs = adapter.requirements
    count = max(4, needs.min_frames)
    count = count if needs.max_frames is None else min(count, needs.max_frames)
    sizes = zip(needs.size_multiple, needs.size_offset, strict=True)
    height, width = (offset + multiple * -(-(64 - offset) // multiple) for multiple, offset in sizes)
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    time = torch.arange(count)[:, None, None] / 8
    planes = [0.5 + 0.4 * torch.sin(6 * x + 4 * y * k + time * (k + 1)) for k in range(3)]
    texture = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(0))
    return (torch.stack(planes, dim=1) + 0.04 * (texture - 0.5)).clamp(0, 1)


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


class _Bench:
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

    def layout(self) -> None:
        """Latents are (1, C, F', H', W'): what changes early in the clip moves the latents earlier than what changes
        late, and so for top and bottom, left and right. Compared as centres, since a VAE sees beyond an edge."""
        base = self.adapter.encode(self.frames, self._generator())
        if base.ndim != 5 or base.shape[0] != 1:
            raise _Failure(f"encode must return (1, C, F, H, W), found {tuple(base.shape)}")
        for axis, frame_axis in ((2, 0), (3, 2), (4, 3)):
            if base.shape[axis] < 2:
                continue
            start, end = (self._centre_of_change(base, axis, frame_axis, at_end) for at_end in (False, True))
            if not end - start > 0.1 * (base.shape[axis] - 1):
                raise _Failure(
                    f"changing the clip at the start and at the end of its axis {frame_axis} moves latent axis {axis} "
                    f"around {start:.1f} and {end:.1f}; encode must return (1, C, F, H, W), found {tuple(base.shape)}"
                )
        decoded = self.adapter.decode(base)
        if decoded.shape != self.frames.shape:
            raise _Failure(f"decode returned {tuple(decoded.shape)} for a clip of {tuple(self.frames.shape)}")

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
                    raise _Failure("a hook used a global random state; use the generator it is given")
        if not torch.equal(*outputs):
            raise _Failure("two runs with the same seed differ under another global seed")

    def state_restored(self) -> None:
        """Predictions leave no trace: neither in further predictions nor in the denoising that follows."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        _, _, x_t = self._noisy()
        before = x_t.clone()
        untouched = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if not torch.equal(before, x_t):
            raise _Failure("denoise wrote into the x_t it was given")
        first = self.adapter.predict_x0(x_t, timesteps.first, condition).clone()
        second = self.adapter.predict_x0(x_t, timesteps.first, condition)
        if not torch.equal(before, x_t):
            raise _Failure("predict_x0 wrote into the x_t it was given")
        if not torch.equal(first, second):
            raise _Failure("predict_x0 gave another estimate the second time; it must not keep state")
        after = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        if not torch.equal(untouched, after):
            raise _Failure("denoise gave another result after predict_x0 was called; state was not restored")

    def identity(self) -> None:
        """N = 0 and an empty low band are SDEdit written out by hand from the adapter's own hooks, bit for bit."""
        plain = self._refined(iterations=0)
        if not torch.equal(plain, self._refined(iterations=3, cutoff=0.0)):
            raise _Failure("cutoff=0 and iterations=0 give different results")
        if not torch.equal(plain, self._by_hand()):
            raise _Failure("iterations=0 is not plain SDEdit: encode, add noise, predict_x0 and step in turn, decode")

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
            raise _Failure(f"{len(self.frames)} frames have {x_t.shape[2]} latent frames; latent_windows needs as many")
        before = self.adapter.predict_x0(x_t, timesteps.first, condition).clone()
        self.adapter.encode(1 - self.frames.flip(0), self._generator())
        if not torch.equal(before, self.adapter.predict_x0(x_t, timesteps.first, condition)):
            raise _Failure("the estimate changed after another clip was encoded; declare latent_windows = False")

    def step_consistency(self) -> None:
        """`step`, told the true x₀, ends at x₀, and on the way keeps to the level that `noise_level` states."""
        timesteps = self._timesteps()
        reference, noise, x_t = self._noisy()
        current = x_t
        for index in range(len(timesteps)):
            current = self.adapter.step(current, reference, timesteps, index, self._generator())
            if index == 0 and len(timesteps) > 1:
                self._check_next_level(current, reference, noise, timesteps)
        error = _relative(current, reference)
        if not error <= max(1e-3, self.tolerance):
            raise _Failure(
                f"stepping with the true x0 ends {error:.2g} (relative) away from it; noise_level or step is off"
            )

    def _check_next_level(self, current: Tensor, reference: Tensor, noise: Tensor, timesteps: Timesteps) -> None:
        level = self.adapter.noise_level(timesteps.values[1])
        spread = float((current - level.alpha * reference).double().std())
        expected = level.sigma * float(noise.double().std())
        if abs(spread - expected) > 0.05 * max(expected, 1e-6):
            raise _Failure(f"after one step the noise has scale {spread:.4g}; noise_level says {expected:.4g}")

    def fixed_point(self) -> None:
        """cutoff = 1, N = 1: the calibrated noise is the model's own ε."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        reference, _, x_t = self._noisy()
        level = self.adapter.noise_level(timesteps.first)

        def predict(latents: Tensor) -> Tensor:
            return self.adapter.predict_x0(latents, timesteps.first, condition)

        if predict(x_t).shape != x_t.shape:
            raise _Failure(f"predict_x0 returned {tuple(predict(x_t).shape)} for latents {tuple(x_t.shape)}")
        epsilon = level.noise_in(x_t, predict(x_t))
        done = calibrate(x_t, reference, level, predict, NoiseCalibration(iterations=1, cutoff=1.0))
        error = _relative(level.noise_in(done.x_t, reference), epsilon)
        if not error <= self.tolerance:
            raise _Failure(f"the calibrated noise is {error:.2g} (relative) away from the model's epsilon")

    def frequencies(self) -> None:
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
            raise _Failure(
                f"a reference that differs only above {cutoff + 0.1:g} of the picture's Nyquist frequency moves the "
                f"clip by {share:.0%} of that difference through the band below {cutoff:g}: cutoff acts on another "
                "layout than the picture's; unpack the latents, so that their neighbours are neighbours in the picture"
            )

    def round_trip(self, allowed: float) -> None:
        """decode(encode(frames)) is the clip again."""
        decoded = self.adapter.decode(self.adapter.encode(self.frames, self._generator()))
        error = float((decoded - self.frames).abs().mean())
        if not error <= allowed:
            raise _Failure(f"decode(encode(clip)) is {error:.2g} away from the clip on average; allowed {allowed}")

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
            raise _Failure(
                f"at timestep {float(timestep):g} the estimate is {error:.2g} (relative) away from the reference (the "
                f"noisy input is {noisy:.2g}) and {scale:.2f} times its size: the x0 formula or noise_level is off"
            )
