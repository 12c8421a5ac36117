"""VideoCrafter models as people use them: threads, other ways to sample, half precision, long sequences."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import nc_refiner
from nc_refiner import CalibratedRefiner, VideoClip
from nc_refiner.adapters.videocrafter import VideoCrafterAdapter
from nc_refiner.adapters.videocrafter import attention as choice

from .videocrafter_model import SmallLatentDiffusion

CLIP = VideoClip(torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(1)), 8.0)


class Sampler:
    """The host's way through a sampling, as far as the calibration looks at it."""

    def __init__(self, model):
        self.model, self.drawn = model, 0

    def p_sample_ddim(self, x, c, t, index, use_original_steps=False, unconditional_guidance_scale=1.0, **_):
        noise = torch.randn(x.shape)
        output = self.model.apply_model(x, t, c)
        bar = self.model.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
        return x + 0 * noise, (x - (1 - bar).sqrt() * output) / bar.sqrt()

    @torch.no_grad()
    def ddim_sampling(
        self, cond, shape, x0=None, start_timesteps=None, mask=None, unconditional_guidance_scale=1.0, **kwargs
    ):
        img, init_x0, index = torch.zeros(shape), False, 0
        ts = torch.tensor([301])
        if start_timesteps is not None and not init_x0:
            img = self.model.q_sample(x0, ts)
            init_x0 = True
        if mask is not None:
            img = self.model.q_sample(x0, ts) * mask + (1 - mask) * img
        return self.p_sample_ddim(img, cond, ts, index)[1]

    @torch.no_grad()
    def copied_sampling(self, cond, shape, x0):
        return self.p_sample_ddim(self.model.q_sample(x0, torch.tensor([301])), cond, torch.tensor([301]), 0)[1]


def start(model):
    condition = {"c_crossattn": [model.get_learned_conditioning(["a"])], "fps": torch.tensor([8])}
    x0 = torch.randn((1, 12, 2, 8, 8), generator=torch.Generator().manual_seed(2))
    return condition, x0


def test_calibration_moves_no_global_state_beyond_the_hosts_own():
    model = SmallLatentDiffusion()
    condition, x0 = start(model)
    states = []
    for iterations in (0, 2):
        nc_refiner.wrap(model, iterations=iterations)
        torch.manual_seed(3)
        Sampler(model).ddim_sampling(condition, x0.shape, x0=x0, start_timesteps=0.6)
        states.append(torch.get_rng_state())
    assert torch.equal(*states) and len(model.calibration_trace.content_loss) == 2
    nc_refiner.unwrap(model)


WAYS = {
    "q_sample by hand": lambda s, c, x0: s.model.q_sample(x0, torch.tensor([301])),
    "a copy under another name": lambda s, c, x0: s.copied_sampling(c, x0.shape, x0),
    "no start_timesteps": lambda s, c, x0: s.ddim_sampling(c, x0.shape, x0=x0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_sampling_that_cannot_be_calibrated_says_so_once(way):
    model = SmallLatentDiffusion().eval()
    condition, x0 = start(model)
    nc_refiner.wrap(model, iterations=2)
    with pytest.warns(UserWarning, match="this sampling is not calibrated"):
        WAYS[way](Sampler(model), condition, x0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WAYS[way](Sampler(model), condition, x0)
        nc_refiner.wrap(model, iterations=0)
        WAYS[way](Sampler(model), condition, x0)
        nc_refiner.unwrap(model)
        WAYS[way](Sampler(model), condition, x0)


def test_training_masks_and_calibrated_samplings_stay_silent():
    model = SmallLatentDiffusion()
    condition, x0 = start(model)
    nc_refiner.wrap(model, iterations=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train()
        model.q_sample(x0, torch.tensor([301]))
        model.eval()
        Sampler(model).ddim_sampling(condition, x0.shape, x0=x0, start_timesteps=0.6, mask=torch.ones_like(x0) / 2)


def test_a_sampler_of_another_making_is_told_what_it_lacks():
    class Other(Sampler):
        @torch.no_grad()
        def ddim_sampling(self, conditions, x0):
            return self.model.q_sample(x0, torch.tensor([301]))

    model = SmallLatentDiffusion()
    condition, x0 = start(model)
    nc_refiner.wrap(model, iterations=1)
    with pytest.raises(RuntimeError, match="has no local cond, index, start_timesteps"):
        Other(model).ddim_sampling(condition, x0)


def test_half_precision_leaves_the_users_network_as_it_is():
    model = SmallLatentDiffusion()
    before = {name: (parameter.dtype, parameter.data_ptr()) for name, parameter in model.named_parameters()}
    network = model.model
    made = VideoCrafterAdapter(model, dtype="bfloat16")
    assert {name: (p.dtype, p.data_ptr()) for name, p in model.named_parameters()} == before
    assert model.model is network and next(made.model.model.parameters()).dtype == torch.bfloat16
    assert made.model.first_stage_model is model.first_stage_model
    again = VideoCrafterAdapter(made.model, dtype="bfloat16")
    assert again.model is made.model  # narrow already: no second copy


@pytest.mark.slow
def test_four_threads_are_bit_equal_to_serial():
    """Two adapters over one model, three calibrations each: 4 threads × 25 calls."""
    model = SmallLatentDiffusion()
    owners = list(model.modules())
    arms = [
        CalibratedRefiner(VideoCrafterAdapter(model, guidance_scale=3.0, eta=eta), nc_refiner.NoiseCalibration(**kind))
        for eta in (0.0, 1.0)
        for kind in ({"iterations": 0}, {"iterations": 2}, {"iterations": 1, "reuse_prediction": False})
    ]
    before = [dict(vars(owner)) for owner in owners]

    def run(job):
        result = arms[job % len(arms)](CLIP, seed=job, num_inference_steps=4, strength=0.6)
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
    assert [dict(vars(owner)) for owner in owners] == before


def test_blocks_that_end_in_another_order_leave_nothing():
    import threading

    model = SmallLatentDiffusion()
    before = dict(vars(model))
    inside, leave = threading.Barrier(2), [threading.Event(), threading.Event()]

    def block(number):
        with nc_refiner.calibrated(model, iterations=number + 1):
            inside.wait(30)
            seen = model.q_sample.config.iterations
            leave[number].wait(30)
        return seen

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(block, number) for number in (0, 1)]
        for number in (0, 1):
            leave[number].set()
            running[number].result(60)
        assert [future.result() for future in running] == [1, 2]
    assert dict(vars(model)) == before


def allocated(tokens):
    """Bytes one call of the stand-in attention asks for, on 8 heads of 40 channels."""
    query, key, value = (torch.randn((8, tokens, 40)) for _ in range(3))
    with torch.profiler.profile(profile_memory=True) as record:
        choice._attention(query, key, value)
    return sum(max(0, event.self_cpu_memory_usage) for event in record.events())


def test_the_stand_in_attention_is_fused_and_its_memory_linear(monkeypatch):
    seen = []
    sdpa = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(choice.F, "scaled_dot_product_attention", lambda *qkv: (seen.append(qkv), sdpa(*qkv))[1])
    few, many = allocated(256), allocated(2048)
    assert all(tensor.ndim == 4 for tensor in seen[0])
    assert torch._fused_sdp_choice(*seen[0]) != torch.nn.attention.SDPBackend.MATH.value
    assert many < 12 * few  # 8 times the tokens; the whole table would be 64 times
    query = torch.randn((6, 9, 8))
    with torch.no_grad():
        assert torch.allclose(choice._attention(query, query, query), sdpa(query, query, query), atol=1e-5)
