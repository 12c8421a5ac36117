"""What tests look at from outside: evaluations of the network, and what the calibration saw."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from nc_refiner.adapters.diffusers import session
from nc_refiner.noise_level import NoiseLevel


def network(pipe: Any) -> torch.nn.Module:
    found: torch.nn.Module = getattr(pipe, "transformer", None) or pipe.unet
    return found


@contextmanager
def counted(pipe: Any) -> Iterator[list[int]]:
    """A list that grows by one with every evaluation of the denoising network."""
    calls: list[int] = []
    handle = network(pipe).register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


@dataclass(eq=False)
class Estimate:
    scheduler: Any
    """As it was before the estimate was made."""
    timestep: Any
    output: Tensor
    sample: Tensor
    level: NoiseLevel
    x0: Tensor


@dataclass(eq=False)
class Seen:
    estimates: list[Estimate] = field(default_factory=list)
    starts: list[tuple[Tensor, Tensor, NoiseLevel]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    """The calibrated x_t, in the layout of `starts`."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Records every estimate and every calibration made during the test."""
    record = Seen()
    estimate, steps, finished = session.estimate_x0, session.calibration_steps, session.Session._finished

    def estimating(scheduler: Any, output: Tensor, sample: Tensor, level: NoiseLevel) -> Tensor:
        x0 = estimate(scheduler, output, sample, level)
        record.estimates.append(Estimate(copy.deepcopy(scheduler), None, output, sample, level, x0))
        return x0

    def starting(x_t: Tensor, reference: Tensor, level: NoiseLevel, config: Any, weights: Any = None) -> Any:
        record.starts.append((x_t, reference, level))
        return steps(x_t, reference, level, config, weights)

    def ending(self: Any, call: Any, result: Any) -> Any:
        record.ends.append(result.x_t)
        record.estimates[-1].timestep = call.arguments["timestep"]
        return finished(self, call, result)

    monkeypatch.setattr(session, "estimate_x0", estimating)
    monkeypatch.setattr(session, "calibration_steps", starting)
    monkeypatch.setattr(session.Session, "_finished", ending)
    return record


def own_estimate(made: Estimate) -> Tensor:
    """x̂₀ as the scheduler itself would have formed it, from a copy in the state it had then."""
    scheduler, output, sample, timestep = made.scheduler, made.output, made.sample, made.timestep
    if getattr(scheduler, "step_index", None) is None and hasattr(scheduler, "_init_step_index"):
        scheduler._init_step_index(timestep)
    if hasattr(scheduler, "convert_model_output"):
        converted = scheduler.convert_model_output(output, sample=sample)
        algorithm = getattr(scheduler.config, "algorithm_type", "dpmsolver++")
        if type(scheduler).__name__ == "DEISMultistepScheduler" or algorithm in ("dpmsolver", "sde-dpmsolver"):
            alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index])
            return (sample - sigma * converted) / alpha
        return converted
    if hasattr(scheduler, "scale_noise"):  # flow matching: a step down to σ = 0 lands on the estimate
        index = scheduler.step_index
        scheduler.sigmas = torch.cat([scheduler.sigmas[: index + 1], torch.zeros_like(scheduler.sigmas[:1])])
        return scheduler.step(output, timestep, sample, return_dict=False)[0]
    if "CogVideoXDPM" in type(scheduler).__name__:
        return scheduler.step(output, None, timestep, None, sample, return_dict=False)[1]
    if type(scheduler).__name__ == "PNDMScheduler":  # a step to the clean end of the schedule
        scheduler.final_alpha_cumprod = torch.tensor(1.0)
        return scheduler._get_prev_sample(sample, int(timestep), -1, output)
    if type(scheduler).__name__ == "TCDScheduler":  # a step to s = 0, made the clean end
        scheduler.alphas_cumprod[0] = 1.0
        return scheduler.step(output, timestep, sample, eta=1.0).pred_noised_sample
    if type(scheduler).__name__ == "CMStochasticIterativeScheduler":  # a step to σ_min adds no noise
        scheduler.sigmas[scheduler.step_index + 1] = scheduler.config.sigma_min
        return scheduler.step(output, timestep, sample).prev_sample
    answer = scheduler.step(output, timestep, sample, return_dict=True)
    for name in ("pred_original_sample", "denoised"):
        if getattr(answer, name, None) is not None:
            return getattr(answer, name)
    raise LookupError(f"{type(scheduler).__name__} shows no estimate of its own: {sorted(answer)}")
