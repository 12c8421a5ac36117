"""SDXL img2img with every compatible scheduler of diffusers, and the families beyond those."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from watching import Seen, counted, own_estimate
from zoo import IMAGES, STEPS, generate

import nc_refiner

ENTRY = IMAGES["StableDiffusionXLImg2ImgPipeline (refiner)"]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, BETAS) for name in KarrasDiffusionSchedulers.__members__},
    "DDPM v": ("DDPMScheduler", {**BETAS, "prediction_type": "v_prediction"}),
    "DDIM sample": ("DDIMScheduler", {**BETAS, "prediction_type": "sample"}),
    "DDIM v zero SNR": (
        "DDIMScheduler",
        {**BETAS, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ),
    "DDIM thresholding": ("DDIMScheduler", {**BETAS, "thresholding": True, "sample_max_value": 2.0}),
    "DDIM clip": ("DDIMScheduler", {**BETAS, "clip_sample": True, "clip_sample_range": 2.0}),
    "Euler v Karras": (
        "EulerDiscreteScheduler",
        {**BETAS, "prediction_type": "v_prediction", "use_karras_sigmas": True},
    ),
    "Euler exponential": ("EulerDiscreteScheduler", {**BETAS, "use_exponential_sigmas": True}),
    "Euler ancestral v": ("EulerAncestralDiscreteScheduler", {**BETAS, "prediction_type": "v_prediction"}),
    "Heun Karras": ("HeunDiscreteScheduler", {**BETAS, "use_karras_sigmas": True}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {**BETAS, "use_karras_sigmas": True}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {**BETAS, "algorithm_type": "sde-dpmsolver++"}),
    "DPM 2M ε": (
        "DPMSolverMultistepScheduler",
        {**BETAS, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ),
    "DPM++ v": ("DPMSolverMultistepScheduler", {**BETAS, "prediction_type": "v_prediction"}),
    "DPM++ flow": (
        "DPMSolverMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
    ),
    "UniPC v": ("UniPCMultistepScheduler", {**BETAS, "prediction_type": "v_prediction"}),
    "DDIM parallel": ("DDIMParallelScheduler", {**BETAS, "clip_sample": False}),
    "DDPM parallel": ("DDPMParallelScheduler", {**BETAS, "clip_sample": False}),
    "LCM": ("LCMScheduler", BETAS),
    "TCD": ("TCDScheduler", BETAS),
    "SA solver": ("SASolverScheduler", BETAS),
    "EDM Euler": ("EDMEulerScheduler", {}),
    "EDM Euler v": ("EDMEulerScheduler", {"prediction_type": "v_prediction"}),
    "EDM DPM++": ("EDMDPMSolverMultistepScheduler", {}),
    "Consistency": ("CMStochasticIterativeScheduler", {}),
    "Flow Euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "Flow Heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "Flow LCM": ("FlowMatchLCMScheduler", {"shift": 3.0}),
}


@functools.cache
def pipeline(flow: bool) -> Any:
    return (IMAGES["StableDiffusion3Img2ImgPipeline"] if flow else ENTRY).build()


def with_scheduler(name: str) -> Any:
    """The refiner, or SD3 for the schedulers that only noise by flow matching, under the scheduler named."""
    kind, config = VARIANTS[name]
    cls = getattr(diffusers, kind)
    known = inspect.signature(cls.__init__).parameters
    pipe = pipeline(name.startswith("Flow"))
    pipe.scheduler = cls(**{key: value for key, value in config.items() if key in known})
    return pipe


def run(pipe: Any, name: str, **changed: Any) -> Any:
    torch.manual_seed(5)  # DPMSolverSDE seeds its Brownian tree from the global state
    entry = IMAGES["StableDiffusion3Img2ImgPipeline"] if name.startswith("Flow") else ENTRY
    return generate(pipe, entry, **changed)


@functools.cache
def stock(name: str) -> Any:
    return run(with_scheduler(name), name)


@pytest.fixture(autouse=True)
def _global_state_kept() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def test_every_compatible_scheduler_is_here() -> None:
    compatible = {cls.__name__ for cls in pipeline(flow=False).scheduler.compatibles}
    assert compatible <= {kind for kind, _ in VARIANTS.values()}


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_changes_without_calibration(name: str) -> None:
    pipe = with_scheduler(name)
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=0), name), stock(name))
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=2, cutoff=0.01, mode="in_loop"), name), stock(name))
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=2, cutoff=0.01, mode="replay"), name), stock(name))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 2, "cutoff": 0.5, "reuse_prediction": True},
        pytest.param({"iterations": 2}, marks=pytest.mark.slow),
    ],
    ids=["half band with reuse", "whole band"],
)
def test_in_loop_equals_replay(name: str, options: dict[str, Any]) -> None:
    pipe = with_scheduler(name)
    in_loop = run(nc_refiner.wrap(pipe, mode="in_loop", **options), name)
    assert torch.equal(in_loop, run(nc_refiner.wrap(pipe, mode="replay", **options), name))
    assert not torch.equal(in_loop, stock(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_estimate_and_fixed_point(name: str, seen: Seen) -> None:
    run(nc_refiner.wrap(with_scheduler(name), iterations=1, mode="in_loop"), name)
    made = seen.estimates[0]
    own = own_estimate(made)
    scale = max(1.0, float(own.abs().max()))
    assert float((made.x0 - own).abs().max()) <= 1e-5 * scale

    # cutoff = 1, one iteration: the calibrated noise is the model's own prediction of it.
    _, reference, level = seen.starts[0]
    calibrated = level.noise_in(seen.ends[0].double(), reference.double())
    epsilon = level.noise_in(made.sample.double(), made.x0.double())
    assert float((calibrated - epsilon).abs().max()) <= 1e-6 * max(1.0, float(epsilon.abs().max()))


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDIM v zero SNR", "Flow Euler"]
)
def test_half_precision(name: str) -> None:
    pipe = copy.copy(with_scheduler(name))
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            setattr(pipe, part, copy.deepcopy(module).to(torch.bfloat16))
    plain = run(pipe, name)
    assert plain.dtype == torch.bfloat16
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=0), name), plain)
    for options in ({"iterations": 2}, {"iterations": 2, "cutoff": 0.5, "reuse_prediction": True}):
        in_loop = run(nc_refiner.wrap(pipe, mode="in_loop", **options), name)
        assert torch.equal(in_loop, run(nc_refiner.wrap(pipe, mode="replay", **options), name))
        assert not torch.equal(in_loop, plain)


def test_at_full_strength_of_a_flow_nothing_can_be_done() -> None:
    pipe = with_scheduler("Flow Euler")
    plain = run(pipe, "Flow Euler", strength=1.0)
    for mode in ("in_loop", "replay"):
        wrapped = nc_refiner.wrap(pipe, iterations=2, mode=mode)
        with counted(pipe) as calls, pytest.warns(UserWarning, match="alpha is 0"):
            assert torch.equal(run(wrapped, "Flow Euler", strength=1.0), plain)
        assert wrapped.calibration_trace.content_loss == ()
        assert len(calls) == STEPS
