"""ModelScope pipelines as people use them: gradients on, several threads, networks that move."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch

import nc_refiner
from nc_refiner.adapters.modelscope import attention
from nc_refiner.adapters.modelscope.adapter import ModelScopeAdapter
from nc_refiner.adapters.runtime import attention as kernels
from nc_refiner.adapters.runtime import drawing_from
from nc_refiner.clip import VideoClip
from nc_refiner.refiner import CalibratedRefiner

from .small_modelscope import MemoryEfficientCrossAttention, VideoToVideoPipeline, _filled, waves

FRAMES = waves(4)
CLIP = VideoClip(FRAMES, 8.0)


@pytest.fixture
def pipe():
    return VideoToVideoPipeline("fast")


def told(pipe):
    return {"video_data": (FRAMES - 0.5) / 0.5, "y": pipe.model.clip_encoder("a dog")}


@pytest.mark.parametrize("iterations", [1, 3])
def test_sampling_keeps_no_graph_where_the_host_leaves_gradients_on(pipe, iterations):
    """The real model's `forward` has no `no_grad` of its own; its sampling has."""
    kept = []
    twin = nc_refiner.wrap(pipe, iterations=iterations)
    model, network = twin.model, pipe.model.generator
    assert any(parameter.requires_grad for parameter in network.parameters())
    latents = torch.randn((1, 4, 2, 10, 8), generator=torch.Generator().manual_seed(1))
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t)
    with torch.random.fork_rng(), torch.enable_grad(), hooks:
        noised = model.diffusion.diffuse(latents, torch.tensor([599]))
        options = {"guide_scale": 7.5, "guide_rescale": 0.2, "solver": "heun", "steps": 2, "t_max": 599}
        stock = pipe.model.diffusion.sample  # the small one leaves gradients on: what is under test is ours
        pipe.model.diffusion.sample = torch.no_grad()(stock)
        found = model.diffusion.sample(noised, network, [{"y": pipe.model.negative_y}] * 2, **options)
    assert not found.requires_grad and kept == []


def test_one_frame_is_refused_before_any_evaluation(pipe):
    twin = nc_refiner.wrap(pipe, iterations=1)
    with pytest.raises(ValueError, match="at least 2"):
        twin.forward({"video_data": FRAMES[:1], "y": pipe.model.negative_y})
    assert pipe.model.generator.evaluations == 0


def test_wrapping_again_keeps_what_is_not_named(pipe):
    twin = nc_refiner.wrap(nc_refiner.wrap(pipe, iterations=1, calibrate_at="network_input"), cutoff=0.5)
    from nc_refiner.adapters.modelscope.host import settings_of

    config, options = settings_of(twin)
    assert (config.iterations, config.cutoff, options) == (1, 0.5, {"calibrate_at": "network_input"})
    assert nc_refiner.unwrap(twin) is pipe
    with pytest.raises(TypeError, match="takes a NoiseCalibration"):
        nc_refiner.wrap(pipe, 0)


def test_wrapped_calls_side_by_side(pipe):
    """Each thread samples what it noised itself; afterwards the user's pipeline and network hold what they held."""
    twin = nc_refiner.wrap(pipe, iterations=1)
    owners = [pipe, pipe.model, *pipe.model.generator.modules()]
    before = [dict(vars(owner)) for owner in owners[2:]]
    with torch.random.fork_rng(), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: twin.forward(told(pipe))["video"], range(12)))
    assert all(bool(torch.isfinite(video).all()) for video in found)
    for owner, held in zip(owners[2:], before, strict=True):
        assert {name: vars(owner)[name] for name in held if name != "evaluations"} == {
            name: value for name, value in held.items() if name != "evaluations"
        }
        assert set(vars(owner)) == set(held)


def test_blocks_in_threads_go_by_their_own_settings(pipe):
    import threading

    inside = threading.Barrier(2)

    def block(iterations):
        with nc_refiner.calibrated(pipe, iterations=iterations):
            inside.wait(30)
            losses = []
            for _ in range(3):
                pipe.model.diffusion._on_trace = losses.append
                before = scoped_iterations(pipe)
                losses.append(before)
            inside.wait(30)
        return losses

    def scoped_iterations(pipe):
        return pipe.model.diffusion._settings()[0].iterations

    before = dict(vars(pipe))
    with ThreadPoolExecutor(2) as pool:
        one, three = pool.map(block, (1, 3))
    assert one == [1] * 3 and three == [3] * 3 and vars(pipe) == before


@pytest.mark.slow
def test_four_threads_are_bit_equal_to_serial(pipe):
    """Two adapters over one pipeline, both under two calibrations: 4 threads × 25 calls."""
    arms = [
        CalibratedRefiner.from_name("modelscope", {"pipe": pipe, **options}, **calibration)
        for options in ({}, {"solver": "heun"})
        for calibration in ({"iterations": 0}, {"iterations": 2}, {"iterations": 1, "reuse_prediction": False})
    ]

    def run(job):
        result = arms[job % len(arms)](CLIP, seed=job, num_inference_steps=2, prompt="a dog")
        return result.clip.frames, result.receipt["evaluations"]

    expected = [run(job) for job in range(100)]
    torch.manual_seed(5)
    wanted = [float(torch.rand(1)) for _ in range(300)]
    torch.manual_seed(5)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(run, job) for job in range(100)]
        drawn = [float(torch.rand(1)) for _ in wanted]
        found = [future.result() for future in running]
    assert drawn == wanted
    for (frames, counts), (other, others) in zip(found, expected, strict=True):
        assert torch.equal(frames, other) and counts == others


def kernel(monkeypatch, answer):
    asked = []

    def has(device, dtype, head_dim=64):
        asked.append((device, dtype, head_dim))
        return answer(device)

    monkeypatch.setattr(attention, "has_xformers_kernel", has)
    return asked


def test_the_kernel_is_chosen_at_call_time(monkeypatch):
    """Wrapped on the CPU and moved to a GPU, a network must come to the GPU's kernel."""
    module = _filled(MemoryEfficientCrossAttention(), 4)
    taken = []
    monkeypatch.setattr(type(module), "forward", lambda self, x, context=None, mask=None: taken.append(1) or x)
    x = torch.randn((2, 7, 8), generator=torch.Generator().manual_seed(1))
    context = torch.randn((2, 3, 6), generator=torch.Generator().manual_seed(2))
    here = ["no"]
    asked = kernel(monkeypatch, lambda device: here[0] == "yes")
    with torch.no_grad(), attention.working_attention(torch.nn.Sequential(module)):
        assert module(x, context).shape == x.shape and not taken
        here[0] = "yes"  # as if it had moved
        assert module(x, context) is x and taken == [1]
    assert "forward" not in vars(module) and asked == [("cpu", torch.float32, 4)] * 2


def test_a_single_part_is_not_copied(monkeypatch):
    module = _filled(MemoryEfficientCrossAttention(), 4)
    kernel(monkeypatch, lambda device: False)
    joined = []
    cat = torch.cat
    monkeypatch.setattr(attention.torch, "cat", lambda parts: (joined.append(len(parts)), cat(parts))[1])
    x, context = torch.randn(2, 7, 8), torch.randn(2, 3, 6)
    with torch.no_grad(), attention.working_attention(module):
        module(x, context)
        assert joined == []
        module(torch.randn(5, 7, 8), torch.randn(5, 3, 6))
        assert joined == [3]


def test_short_memory_is_not_remembered_as_no_kernel(monkeypatch):
    from importlib.machinery import ModuleSpec

    answers = [torch.OutOfMemoryError("CUDA out of memory"), None]

    def compute(query, key, value):
        problem = answers.pop(0)
        if problem is not None:
            raise problem
        return query

    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    package.__spec__, ops.memory_efficient_attention = ModuleSpec("xformers", None), compute
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    monkeypatch.setattr(kernels, "_known", {})
    assert not kernels.has_xformers_kernel("cpu", torch.float32)
    assert kernels.has_xformers_kernel("cpu", torch.float32) and kernels.has_xformers_kernel("cpu", torch.float32)


def test_draws_are_made_on_the_generators_device(pipe, monkeypatch):
    """A GPU's generator is refused by a draw on the CPU: the draw must be made where the generator lives."""
    placed = []
    randn = torch.randn

    def noting(*args, **kwargs):
        placed.append(kwargs.get("device"))
        return randn(*args, **kwargs)

    monkeypatch.setattr(torch, "randn", noting)
    ModelScopeAdapter(pipe).encode(FRAMES, torch.Generator().manual_seed(1))
    assert placed and all(device == torch.device("cpu") for device in placed)


def test_a_lent_generator_moves_nothing_global():
    own, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    with drawing_from(own):
        first = torch.randn(5), torch.rand(2), torch.randint(10, (3,)), torch.randn_like(torch.zeros(2, 3))
        assert torch.equal(torch.get_rng_state(), before)
    wanted = (
        torch.randn(5, generator=same),
        torch.rand(2, generator=same),
        torch.randint(10, (3,), generator=same),
        torch.empty(2, 3).normal_(generator=same),
    )
    assert all(torch.equal(a, b) for a, b in zip(first, wanted, strict=True))
