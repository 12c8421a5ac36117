"""The checks of `conformance` on what goes beyond the paper: masks, the objective, the low-pass in time, `hold`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..calibration import NoiseCalibration, calibrate
from .conformance_checks import Bench, Fault
from .run import Refinement

__all__ = ["BeyondBench"]


class BeyondBench(Bench):
    """One adapter on the bench; its network is evaluated no more often for any of these options."""

    def _counted(self, config: NoiseCalibration) -> tuple[Tensor, int]:
        before = self.adapter.evaluations
        run = Refinement(self.adapter, config, self.settings)
        found = torch.cat(list(run.run(self.frames, len(self.frames))))
        return found, self.adapter.evaluations - before

    def masks(self) -> None:
        """A mask of ones is none, one of zeros is plain SDEdit, bit for bit; and half a mask acts on its half."""
        ones, zeros = torch.ones(5, 7), torch.zeros(5, 7)
        plain, strict = self._refined(iterations=0), self._refined(iterations=1)
        if not torch.equal(strict, self._masked(ones)):
            raise Fault("a mask of ones gives another result than none")
        if not torch.equal(plain, self._masked(zeros)):
            raise Fault("a mask of zeros is not plain SDEdit")
        timesteps, condition = self._timesteps(), self.adapter.condition()
        reference, _, x_t = self._noisy()
        level = self.adapter.noise_level(timesteps.first)
        weights = torch.zeros((1, 1, 1, 1, reference.shape[-1]))
        weights[..., : max(1, reference.shape[-1] // 2)] = 1
        done = calibrate(
            x_t,
            reference,
            level,
            lambda x: self.adapter.predict_x0(x, timesteps.first, condition),
            NoiseCalibration(iterations=1, mask=ones),
            weights.to(x_t.device),
        )
        free = weights.to(x_t.device).expand_as(x_t) == 0
        if not torch.equal(done.x_t[free], x_t[free]) or torch.equal(done.x_t, x_t):
            raise Fault("half a mask does not change its own half alone")

    def _masked(self, mask: Tensor) -> Tensor:
        return self._counted(NoiseCalibration(iterations=1, mask=mask))[0]

    def options(self) -> None:
        """`objective` and `cutoff_time` cost no evaluation, and change the result where they can."""
        reference = self.adapter.encode(self.frames, self._generator())
        # The first update is the same under every objective.
        plain, made = self._counted(NoiseCalibration(iterations=2))
        for name, config, acts in (
            ("objective", NoiseCalibration(iterations=2, objective="colour_safe"), True),
            ("cutoff_time", NoiseCalibration(iterations=2, cutoff_time=0.5), reference.shape[2] > 1),
        ):
            found, more = self._counted(config)
            if more != made:
                raise Fault(f"with {name} the network is evaluated {more} times and without {made} times")
            if torch.equal(found, plain) == acts:
                raise Fault(f"{name} {'changes nothing' if acts else 'changes a single frame'}")

    def holding(self) -> None:
        """`hold` sees every estimate in order, costs none, and the steps follow from what it answers."""
        timesteps, condition = self._timesteps(), self.adapter.condition()
        reference, _, x_t = self._noisy()
        asked: list[tuple[float, int]] = []

        def answering(wanted: Tensor | None) -> tuple[Tensor, int]:
            class Answer:
                def __call__(self, x0: Tensor, step: float, steps: int) -> Tensor:
                    asked.append((step, steps))
                    return x0 if wanted is None else wanted.to(x0)

            before = self.adapter.evaluations
            found = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator(), hold=Answer())  # type: ignore[arg-type]
            return found, self.adapter.evaluations - before

        before = self.adapter.evaluations
        plain = self.adapter.denoise(x_t, timesteps, condition, generator=self._generator())
        made = self.adapter.evaluations - before
        unchanged, more = answering(None)
        steps = [step for step, _ in asked]
        if not asked or steps != sorted(steps) or steps[0] != 0 or any(step != count - 1 for step, count in asked[-1:]):
            raise Fault(f"hold is asked at steps {steps}; it must be asked at each, from 0 to the last")
        if more != made or not torch.equal(plain, unchanged):
            raise Fault("a hold that gives every estimate back changes the result, or costs evaluations")
        forced, _ = answering(reference)
        left = float((forced - reference).double().norm() / reference.double().norm().clamp_min(1e-12))
        if not left <= 0.2:
            raise Fault(f"steps from the true x0 end {left:.2g} (relative) away from it; step from what hold answers")
