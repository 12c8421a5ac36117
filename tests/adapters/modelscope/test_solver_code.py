"""ModelScope's real schedule, diffusion and solver files, loaded by path, under our calibration."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from nc_refiner.adapters.modelscope.calibrated_diffusion import CalibratedDiffusion
from nc_refiner.adapters.modelscope.solving import estimate_x0, level_at, run_solver
from nc_refiner.calibration import NoiseCalibration

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from modelscope_solvers import load_solver_code

pytestmark = pytest.mark.skipif(
    find_spec("modelscope") is None or find_spec("torchsde") is None, reason="needs modelscope and torchsde"
)
SOLVERS = {"dpmpp_2m_sde": 6, "heun": 5}


@pytest.fixture(scope="module")
def diffusion():
    code = load_solver_code()
    sigmas = code.schedules_sdedit.noise_schedule(
        schedule="logsnr_cosine_interp", n=1000, zero_terminal_snr=True, scale_min=2.0, scale_max=4.0
    )
    return code.diffusion_sdedit.GaussianDiffusion_SDEdit(sigmas=sigmas, prediction_type="v")


class Network:
    """A smooth network of two conditions that counts its evaluations and remembers its inputs."""

    def __init__(self):
        self.inputs: list[torch.Tensor] = []

    def __call__(self, x, t, y):
        self.inputs.append(x)
        return torch.tanh(x.roll(1, -1) + y) + 0.3 * x * (t.view(-1, 1, 1, 1, 1) / 1000)


def sampled(diffusion, solver, config=None, at="network_input", seed=2):
    network, traces = Network(), []
    draw = torch.Generator().manual_seed(1)
    reference, noise = (torch.randn(1, 4, 2, 10, 8, generator=draw) for _ in range(2))
    host = diffusion if config is None else CalibratedDiffusion(diffusion, lambda: (config, at), traces.append)
    torch.manual_seed(seed)
    x_t = host.diffuse(reference, torch.tensor([599]), noise)
    kwargs = [{"y": 0.2}, {"y": -0.1}]
    out = host.sample(
        noise=x_t, model=network, model_kwargs=kwargs, guide_scale=7.5, guide_rescale=0.2, solver=solver,
        steps=SOLVERS[solver], t_max=599, t_min=0, discretization="trailing",
    )  # fmt: skip
    return out, network, traces, torch.get_rng_state()


def test_the_noise_level_is_the_hosts(diffusion):
    level = level_at(diffusion, 599)
    assert level.alpha == pytest.approx(0.233473, abs=1e-6) and level.sigma == pytest.approx(0.972363, abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_identity_and_cost(diffusion, solver):
    stock, network, _, rng = sampled(diffusion, solver)
    for config in (NoiseCalibration(iterations=0), NoiseCalibration(cutoff=0.0)):
        same, counted, _, stream = sampled(diffusion, solver, config)
        assert torch.equal(stock, same) and torch.equal(rng, stream)
        assert len(counted.inputs) == len(network.inputs)
    for iterations in (1, 3):
        other, counted, traces, stream = sampled(diffusion, solver, NoiseCalibration(iterations=iterations))
        assert len(counted.inputs) == len(network.inputs) + 2 * (iterations - 1) and torch.equal(rng, stream)
        assert not torch.equal(stock, other) and len(traces[0].content_loss) == iterations


def test_guidance_and_reuse_while_calibrating(diffusion):
    stock = len(sampled(diffusion, "heun")[1].inputs)
    cheap = NoiseCalibration(iterations=2, guidance_scale=1.0)
    assert len(sampled(diffusion, "heun", cheap)[1].inputs) == stock + 2
    for reuse, more in ((True, 2), (None, 2), (False, 4)):
        config = NoiseCalibration(iterations=2, reuse_prediction=reuse)
        assert len(sampled(diffusion, "heun", config)[1].inputs) == stock + more
    same = NoiseCalibration(iterations=2, guidance_scale=7.5)
    assert len(sampled(diffusion, "heun", same)[1].inputs) == stock + 2


@pytest.mark.parametrize("at", ["network_input", "x_t"])
def test_where_the_estimate_is_made(diffusion, at):
    """`network_input` is the very point the solver feeds its network first; `x_t` is not."""
    network = Network()
    x_t = torch.randn(1, 4, 2, 10, 8, generator=torch.Generator().manual_seed(1))
    estimate_x0(diffusion, x_t, 599, at, network, {"y": 0.2})
    solver = Network()
    options = {"model_kwargs": {"y": 0.2}, "solver": "heun", "steps": 3, "t_max": 599, "t_min": 0}
    run_solver(diffusion, x_t, solver, {**options, "discretization": "trailing"})
    assert torch.allclose(network.inputs[0], solver.inputs[0], atol=1e-5) == (at == "network_input")
