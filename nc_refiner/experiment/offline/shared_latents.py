"""One clip under every arm: latents that arms have in common are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ...adapters.base import RefinerAdapter, Timesteps
from ...baselines import Setting, encoded, ilvr, invert, matched_sdedit, renoised
from ...baselines.setting import Encoded
from ...calibration import NoiseCalibration, calibrate, calibration_steps, content_loss
from ...config.refiner import calibration_fields
from ...evaluation.measure import measure_frames
from ...refining.plan import settled
from .arms import Arm
from .clips import InputClip
from .sweep_config import PlanBase

__all__ = ["Bench", "reused_by"]

Row = dict[str, Any]
Keep = Callable[[Arm, Tensor], Row]
COMMON_CUTOFF = 1.0
"""ν of the content loss by which arms of every cutoff are compared."""


def reused_by(plan: PlanBase, adapter: RefinerAdapter) -> bool:
    """Whether the plan's arms reuse their last prediction on `adapter`; raises as `settled`."""
    calibration = NoiseCalibration(**calibration_fields(plan.described))
    return bool(settled(adapter, calibration, plan.described.get("guidance_scale")).reuse_prediction)


class Bench:
    """Runs arms on one clip; every number is what `CalibratedRefiner` or `BaselineRefiner` would give.

    Shared: the encoding; the noise of a seed; the first prediction, which belongs to SDEdit and to every ν; the
    calibration, of which N = 1 is a beginning of N = 3; the prediction with which an arm's denoising starts, which is
    the last iteration's or, without reuse, the next one's; SDEdit at lower strengths among the candidates of a match.

    Args:
        adapter: the host.
        clip: at most as many frames as the adapter takes at once.
        plan: settings that all arms have in common.
        keep: given an arm and its frames, keeps them where they are to be kept; what it returns joins the arm's row.

    Raises:
        ValueError: the clip is longer than one window of the adapter.
    """

    def __init__(self, adapter: RefinerAdapter, clip: InputClip, plan: PlanBase, keep: Keep = lambda arm, frames: {}):
        needs = adapter.requirements
        if needs.max_frames is not None and len(clip.frames) > needs.max_frames:
            raise ValueError(
                f"{clip.name} has {len(clip.frames)} frames; a sweep measures one window, and {adapter.name} takes at "
                f"most {needs.max_frames}: lower `frames`, or give `window`"
            )
        self.adapter, self.clip, self.plan, self._keep = adapter, clip, plan, keep
        self._condition = adapter.condition(*((plan.prompt, None) if needs.prompt else (None, None)))
        self._encodings: dict[int | None, Encoded] = {}
        self.reuses = reused_by(plan, adapter)

    def timesteps(self, strength: float) -> Timesteps:
        """The steps that `strength` runs."""
        return self.adapter.timesteps(
            self.plan.described.get("num_inference_steps") or self.adapter.requirements.default_steps, strength
        )

    def rows(self, arms: Sequence[Arm]) -> Iterator[tuple[Arm, Row]]:
        """Each arm with what it came to, as soon as it is known; arms of one seed and strength stand together."""
        with torch.no_grad():
            for (seed, strength), some in groupby(arms, key=lambda arm: (arm.seed, arm.strength)):
                if seed is None or strength is None:
                    for arm in some:
                        yield arm, {"evaluations": 0, **self._measured(arm, self.clip.frames)}
                else:
                    yield from _Trial(self, self._setting(seed, strength)).rows(list(some))

    def _encoded(self, seed: int) -> Encoded:
        for key in (None, seed):
            if key in self._encodings:
                return self._encodings[key]
        found = encoded(self.adapter, self.clip.frames, seed)
        self._encodings[seed if found.drew else None] = found
        return found

    def _setting(self, seed: int, strength: float) -> Setting:
        latents, steps = self._encoded(seed), self.timesteps(strength)
        scale = self.plan.described.get("guidance_scale")
        return Setting.of(self.adapter, latents, steps, self._condition, seed, guidance_scale=scale)

    def measured(self, latents: Tensor, setting: Setting, arm: Arm | None = None) -> Row:
        """Metrics of refined latents, and their own content loss; those of an `arm` are kept where they are to be."""
        how = next(iter(self._encodings.values())).how
        frames = how.undo(self.adapter.decode(latents))
        if not bool(torch.isfinite(frames).all()):
            raise RuntimeError(f"{self.adapter.name} produced NaN or infinite pixels on {self.clip.name}")
        loss = content_loss(latents, setting.reference, COMMON_CUTOFF)
        return {"output_loss": loss, **self._measured(arm, frames)}

    def _measured(self, arm: Arm | None, frames: Tensor) -> Row:
        names = (*self.plan.metrics, *(("psnr_to_original",) if self.clip.original is not None else ()))
        measured = measure_frames(self.clip.frames, frames, names, original=self.clip.original)
        return {**measured, **(self._keep(arm, frames) if arm is not None else {})}


class _Trial:
    """The arms of one seed and one strength."""

    def __init__(self, bench: Bench, setting: Setting):
        self._bench, self._setting = bench, setting
        # A host that runs its own solver may ask for its first prediction in its own way.
        self._share = not setting.adapter.owns_trajectory
        self._first: Tensor | None = None
        self._sdedit: dict[tuple[float, ...], Tensor] = {}
        self._targets: dict[tuple[int, float], float] = {}

    def rows(self, arms: Sequence[Arm]) -> Iterator[tuple[Arm, Row]]:
        for arm in arms:
            if arm.method == "sdedit":
                yield arm, self._row(arm, self._plain(self._setting.timesteps), len(self._setting.timesteps))
        for cutoff, some in groupby((arm for arm in arms if arm.method in ("nc", "trace")), key=lambda arm: arm.cutoff):
            yield from self._chain(cutoff or 0.0, list(some))
        for arm in arms:
            if arm.method == "ilvr":
                latents = ilvr(self._setting, arm.cutoff or 0.0)
                yield arm, self._row(arm, latents, len(self._setting.timesteps))
            elif arm.method == "inversion":
                latents = self._setting.denoise(invert(self._setting))
                yield arm, self._row(arm, latents, 2 * len(self._setting.timesteps))
            elif arm.method == "renoise":
                repeats = arm.iterations or 0
                latents = self._setting.denoise(renoised(self._setting, repeats))
                yield arm, self._row(arm, latents, repeats + len(self._setting.timesteps))
            elif arm.method == "matched_sdedit":
                yield arm, self._matched(arm)

    def _row(self, arm: Arm, latents: Tensor, evaluations: int, **more: Any) -> Row:
        steps = len(self._setting.timesteps)
        measured = self._bench.measured(latents, self._setting, arm)
        return {"steps": steps, "evaluations": evaluations, **more, **measured}

    def _first_x0(self) -> Tensor:
        if self._first is None:
            self._first = self._setting.predict_x0(self._setting.x_t, self._setting.timesteps.first)
        return self._first

    def _plain(self, timesteps: Timesteps) -> Tensor:
        key = tuple(timesteps.values.tolist())
        if key not in self._sdedit:
            setting = self._setting.at(timesteps)
            own = key == tuple(self._setting.timesteps.values.tolist())
            self._sdedit[key] = setting.denoise(setting.x_t, self._first_x0() if own and self._share else None)
        return self._sdedit[key]

    def _chain(self, cutoff: float, arms: Sequence[Arm]) -> Iterator[tuple[Arm, Row]]:
        """Arms of one ν, N ascending, along one calibration."""
        setting, wanted = self._setting, sorted(arms, key=lambda arm: arm.iterations or 0)
        most = wanted[-1].iterations or 0
        once = NoiseCalibration(iterations=1, cutoff=cutoff, reuse_prediction=self._bench.reuses)
        acts = next(calibration_steps(setting.x_t, setting.reference, setting.level, once), None) is not None
        losses: list[float] = []
        x_t, implied = setting.x_t, None
        for done in range(most + 1):
            reused = None
            if implied is not None and any(arm.iterations == done and arm.method == "nc" for arm in wanted):
                # Before the next prediction: a host's own solver may go by the one that was made last.
                reused = setting.denoise(x_t, implied)
            x0 = None
            if acts:
                # Without reuse the denoising starts with it; with reuse it is measured, and the next arm's.
                x0 = self._first_x0() if done == 0 else setting.predict_x0(x_t, setting.timesteps.first)
                losses.append(content_loss(x0, setting.reference, cutoff))
            for arm in wanted:
                if arm.iterations != done:
                    continue
                if arm.method == "trace":
                    yield arm, {"steps": len(setting.timesteps), "evaluations": len(losses), "content_loss": losses[:]}
                    continue
                latents = setting.denoise(x_t, x0 if self._share else None) if reused is None else reused
                self._targets[done, cutoff] = content_loss(latents, setting.reference, cutoff)
                evaluations = len(setting.timesteps) + (done if losses else 0) - (reused is not None)
                yield arm, self._row(arm, latents, evaluations, content_loss=losses[:])
            if x0 is not None and done < most:
                found = calibrate(x_t, setting.reference, setting.level, lambda _, known=x0: known, once)  # type: ignore[misc]
                x_t, implied = found.x_t, found.x0

    def _matched(self, arm: Arm) -> Row:
        iterations, cutoff = arm.iterations or 0, arm.cutoff or 0.0
        target = self._target(iterations, cutoff)
        match = matched_sdedit(self._setting, target, cutoff, self._plain)
        return {
            **self._row(arm, match.latents, match.steps),
            "matched_strength": match.strength,
            "matched_loss": match.content_loss,
            "target_loss": match.target,
        }

    def _target(self, iterations: int, cutoff: float) -> float:
        if (iterations, cutoff) not in self._targets:
            # Its row was stored by an earlier run, its latents were not.
            for _ in self._chain(cutoff, [Arm("nc", iterations, cutoff, seed=0)]):
                pass
        return self._targets[iterations, cutoff]
