"""`BaselineRefiner`: a rival of calibration behind the same call."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import RefinerAdapter
from ..calibration import CalibrationTrace, NoiseCalibration, calibrate, content_loss
from ..clip import VideoClip
from ..refiner import RefinedClip
from ..refining.plan import RefinePlan, settled
from ..refining.receipt import peak_memory_bytes, planned
from ..refining.resize import resized
from ..refining.settings import RefineSettings
from ..refining.windows import sliding
from .ilvr import ilvr
from .inversion import invert
from .matched import matched_sdedit
from .renoise import renoised
from .setting import Setting, encoded

__all__ = ["BASELINES", "BaselineRefiner"]

BASELINES = ("input", "ilvr", "inversion", "renoise", "matched_sdedit")


class BaselineRefiner:
    """A baseline over any adapter whose loop is run here (`owns_trajectory` is False).

    Args:
        adapter: the host.
        method: `input` (the clip as it came), `ilvr` (low frequencies replaced at every step), `inversion` (DDIM
            inversion of the reference, then denoising), `renoise` (the first prediction noised anew, as often as
            `calibration` iterates) or `matched_sdedit` (SDEdit at the strength that keeps as much
            content as `calibration` does; per window).
        cutoff: ν of ILVR, in [0, 1].
        calibration: what `matched_sdedit` is matched to, and whose iterations `renoise` repeats.

    Raises:
        ValueError: unknown method, `cutoff` out of range, or an adapter that runs its own solver.

    Examples:
        >>> from nc_refiner.adapters.embedded import EmbeddedRefiner
        >>> refiner = BaselineRefiner(EmbeddedRefiner(device="cpu"), "ilvr", cutoff=0.5)
        >>> refiner(VideoClip(torch.rand(4, 3, 32, 32)), strength=0.2, num_inference_steps=10, seed=1).clip.height
        32
    """

    def __init__(
        self,
        adapter: RefinerAdapter,
        method: str,
        cutoff: float = 0.5,
        calibration: NoiseCalibration | None = None,
    ):
        if method not in BASELINES:
            raise ValueError(f"unknown baseline {method!r}; there are: {', '.join(BASELINES)}")
        if not 0 <= cutoff <= 1:
            raise ValueError(f"cutoff is {cutoff}; it must lie in [0, 1] (a fraction of the Nyquist frequency)")
        if method != "input" and adapter.owns_trajectory:
            raise ValueError(f"baselines need an adapter whose loop is run here; {adapter.name} runs its own solver")
        self.adapter, self.method, self.cutoff = adapter, method, cutoff
        self.calibration = calibration or NoiseCalibration(cutoff=adapter.requirements.default_cutoff)

    def __call__(self, clip: VideoClip, *, seed: int = 0, **settings: Any) -> RefinedClip:
        """Refine `clip`; `settings` are fields of `RefineSettings`. The receipt's `windows` say what each came to.

        Raises:
            TypeError, ValueError: unknown or out-of-range settings.
        """
        settings.setdefault("prompt", clip.prompt)
        chosen = RefineSettings(seed=seed, **settings)
        if chosen.keep is not None:
            raise ValueError("a baseline takes no target (keep): it is run at the settings it is given")
        plan = RefinePlan(self.adapter, NoiseCalibration(iterations=0), chosen)
        calibration = settled(self.adapter, self.calibration, chosen.guidance_scale)
        windows: list[dict[str, Any]] = []
        evaluations, start = self.adapter.evaluations, time.perf_counter()

        def refine(frames: Tensor, first: int) -> Tensor:
            latents = encoded(self.adapter, frames, seed, first)
            how = (plan.timesteps, plan.condition, seed, first, chosen.guidance_scale)
            setting = Setting.of(self.adapter, latents, *how)
            refined, facts = self._latents(setting, calibration)
            windows.append({"first": first, "frames": len(frames), **facts})
            return latents.how.undo(self.adapter.decode(refined))

        if self.method == "input":
            frames = resized(clip.frames, chosen)
        else:
            window = plan.window_for(len(clip))
            frames = torch.cat(list(sliding(resized(clip.frames, chosen), window, plan.overlap_for(window), refine)))
        receipt: dict[str, Any] = {
            **planned(plan),
            "baseline": {"method": self.method, "cutoff": self.cutoff, "calibration": calibration.described()},
            "windows": windows,
            "evaluations": {"denoising": self.adapter.evaluations - evaluations},
            "seconds": {"total": round(time.perf_counter() - start, 4)},
            "peak_memory_bytes": peak_memory_bytes(self.adapter.device),
            "degradations": list(plan.notes),
        }
        del receipt["calibration"]  # a baseline does not calibrate
        note = f"{self.adapter.name} refiner, baseline {self.method}, seed {seed}"
        return RefinedClip(clip.with_frames(frames, note), CalibrationTrace(), receipt)

    def _latents(self, setting: Setting, calibration: NoiseCalibration) -> tuple[Tensor, dict[str, Any]]:
        if self.method == "ilvr":
            return ilvr(setting, self.cutoff), {}
        if self.method == "inversion":
            return setting.denoise(invert(setting)), {}
        if self.method == "renoise":
            return setting.denoise(renoised(setting, calibration.iterations)), {}
        first = setting.timesteps.first
        calibrated = calibrate(
            setting.x_t, setting.reference, setting.level, lambda x_t: setting.predict_x0(x_t, first), calibration
        )
        cutoff = calibration.cutoff
        target = content_loss(setting.denoise(calibrated.x_t, calibrated.x0), setting.reference, cutoff)
        match = matched_sdedit(setting, target, cutoff)
        return match.latents, {
            "strength": match.strength,
            "content_loss": match.content_loss,
            "target_content_loss": match.target,
        }
