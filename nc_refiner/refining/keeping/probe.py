"""What a clip's first estimate tells: one evaluation, before anything is run."""

from __future__ import annotations

import torch
from torch import Tensor

from ...adapters.base import RefinerAdapter
from ...evaluation.measure import measure_frames
from ...evaluation.meters import Models
from ..fidelity import Fidelity
from ..fit import fit
from ..plan import RefinePlan
from ..windows import frame_noise, window_generator
from .ladder import Ladder

__all__ = ["first_estimate", "models_of", "value_of"]


def models_of(target: Fidelity) -> Models:
    """The networks that the target's metric needs; raises as `Models.require` where they are not at hand."""
    models = Models(lpips=target.lpips_weights)
    models.require([target.metric])
    return models


def value_of(target: Fidelity, reference: Tensor, output: Tensor, models: Models) -> float:
    """The target's metric of `output` against `reference`, both `(F, 3, H, W)` in [0, 1].

    Raises:
        ValueError: the metric cannot be measured on frames of this size.
    """
    value = measure_frames(reference, output, [target.metric], models)[target.metric]
    if value is None:
        if torch.equal(reference, output):  # PSNR of equal clips
            return 100.0
        size = "×".join(map(str, output.shape[-2:]))
        raise ValueError(f"keep: {target.metric} cannot be measured on frames of {size}; choose another metric")
    return value


def first_estimate(adapter: RefinerAdapter, ladder: Ladder, frames: Tensor, first: int = 0) -> Tensor:
    """x̂₀ of a window `(F, 3, H, W)`, frames from number `first` on, at the strongest strength, uncalibrated, as frames;
    one evaluation."""
    rung = ladder.rung(1.0)
    plan = RefinePlan(adapter, rung.calibration, rung.settings)
    fitted, how = fit(frames, adapter.requirements)
    with torch.no_grad():
        reference = adapter.encode(fitted, window_generator(rung.settings.seed, first))
        noise = frame_noise(tuple(reference.shape), rung.settings.seed, first, reference.device)
        timestep = plan.timesteps.first
        x_t = adapter.noise_level(timestep).add_noise(reference, noise.to(reference.dtype))
        x0 = adapter.predict_x0(x_t, timestep, plan.condition, rung.settings.guidance_scale)
        return how.undo(adapter.decode(x0))
