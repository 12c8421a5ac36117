"""The small parts on their own: layouts, estimates, coefficients, patching, memory of encoders."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nc_refiner import NoiseLevel
from nc_refiner.adapters.diffusers.coefficients import Noising, noising_hooked, start_level
from nc_refiner.adapters.diffusers.errors import NotSDEdit
from nc_refiner.adapters.diffusers.estimates import carried_output, estimate_x0, implying_output, prediction_type
from nc_refiner.adapters.diffusers.layout import PackCall, find_layout
from nc_refiner.adapters.diffusers.memo import EncoderMemo
from nc_refiner.adapters.runtime import MethodHook, replaced, rewinder


def pack(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) → (B, tokens, values), as the flow transformers pack."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, h // patch * (w // patch), c * patch**2)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_packing_is_learnt_and_undone(b: int, c: int, patch: int, h: int, w: int, seed: int) -> None:
    x = torch.randn((b, c, h * patch, w * patch), generator=torch.Generator().manual_seed(seed))
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    layout = find_layout(x, pack(x, patch), [PackCall(x, pack, (patch,), {})])
    assert layout is not None
    assert torch.equal(layout.to_sample(other), pack(other, patch))
    assert torch.equal(layout.to_noised(layout.to_sample(other)), other)


def test_values_decide_where_shapes_are_ambiguous() -> None:
    x = torch.randn(1, 4, 4, 2, 2)
    swapped = x.permute(0, 2, 1, 3, 4)
    found = find_layout(x, swapped, [])
    assert found is not None and torch.equal(found.to_noised(swapped), x)
    identity = find_layout(x, x, [])
    assert identity is not None and identity.to_sample(x) is x
    assert find_layout(x, x + 1, []) is None
    half = find_layout(x, x.bfloat16(), [])
    assert half is not None
    lossy = PackCall(x, lambda t: t[:, :1], (), {})
    assert lossy.layout(x) is None and PackCall(x[:, :1], pack, (1,), {}).layout(x) is None


FAMILIES: dict[str, tuple[Any, NoiseLevel]] = {
    "ε": (diffusers.DDIMScheduler(clip_sample=False), NoiseLevel(0.6, 0.8)),
    "v": (diffusers.DDIMScheduler(clip_sample=False, prediction_type="v_prediction"), NoiseLevel(0.6, 0.8)),
    "v, VE": (diffusers.EulerDiscreteScheduler(prediction_type="v_prediction"), NoiseLevel(1.0, 3.0)),
    "sample": (diffusers.DDIMScheduler(clip_sample=False, prediction_type="sample"), NoiseLevel(0.6, 0.8)),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler(), NoiseLevel(0.3, 0.7)),
    "EDM": (diffusers.EDMEulerScheduler(), NoiseLevel(1.0, 2.0)),
    "EDM v": (diffusers.EDMEulerScheduler(prediction_type="v_prediction"), NoiseLevel(1.0, 2.0)),
    "consistency": (diffusers.CMStochasticIterativeScheduler(clip_denoised=False), NoiseLevel(1.0, 2.0)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_carried_outputs_keep_the_noise(name: str) -> None:
    scheduler, level = FAMILIES[name]
    generator = torch.Generator().manual_seed(0)
    sample, moved, output = (torch.randn((2, 4, 3, 3), dtype=torch.float64, generator=generator) for _ in range(3))
    epsilon = level.noise_in(sample, estimate_x0(scheduler, output, sample, level))
    carried = carried_output(scheduler, output, sample, moved, level)
    assert torch.allclose(level.noise_in(moved, estimate_x0(scheduler, carried, moved, level)), epsilon, atol=1e-9)
    if name == "ε":
        assert torch.equal(carried, output)
    implying = implying_output(scheduler, output, sample, moved, level)
    assert torch.allclose(estimate_x0(scheduler, implying, sample, level), moved, atol=1e-9)


def test_learned_variance_stays_behind_the_prediction() -> None:
    scheduler, level = FAMILIES["v"]
    sample, moved, output = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.randn(2, 8, 3, 3)
    assert torch.equal(
        estimate_x0(scheduler, output, sample, level), estimate_x0(scheduler, output[:, :4], sample, level)
    )
    for made in (
        carried_output(scheduler, output, sample, moved, level),
        implying_output(scheduler, output, sample, moved, level),
    ):
        assert made.shape == output.shape and torch.equal(made[:, 4:], output[:, 4:])
        assert not torch.equal(made[:, :4], output[:, :4])


def test_unknown_prediction_types_are_named() -> None:
    scheduler = copy.deepcopy(FAMILIES["ε"][0])
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(ValueError, match="DDIMScheduler has prediction_type 'score'; known: epsilon"):
        prediction_type(scheduler)


def test_coefficients_are_the_schedulers_own() -> None:
    ddim = diffusers.DDIMScheduler()
    found = start_level(ddim, torch.tensor(600))
    assert found is not None
    assert found.alpha == pytest.approx(float(ddim.alphas_cumprod[600]) ** 0.5, abs=1e-6)
    assert found.norm == pytest.approx(1, abs=1e-6)
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow.set_timesteps(5)
    flow.set_begin_index(2)
    found = start_level(flow, flow.timesteps[2])
    assert found is not None and found.sigma == pytest.approx(float(flow.sigmas[2]), abs=1e-6)
    assert found.alpha + found.sigma == pytest.approx(1, abs=1e-6)
    assert start_level(diffusers.IPNDMScheduler(), torch.tensor(1)) is None


def test_noising_is_recorded_and_its_limits_told() -> None:
    scheduler = diffusers.DDIMScheduler()
    seen: list[Noising] = []
    x, e = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    plain = scheduler.add_noise(x, e, torch.tensor([500]))

    def record(noising: Noising) -> Tensor:
        seen.append(noising)
        return noising.x_t

    with noising_hooked(scheduler, record):
        assert torch.equal(scheduler.add_noise(x, e, timesteps=torch.tensor([500])), plain)
        with pytest.raises(ValueError, match="different noise levels"):
            scheduler.add_noise(x, e, torch.tensor([500, 100]))
        with pytest.raises(NotSDEdit, match="raise strength"):
            scheduler.add_noise(x, e, torch.tensor([], dtype=torch.long))
    assert "add_noise" not in vars(scheduler)
    assert torch.equal(seen[0].reference, x) and torch.equal(seen[0].x_t, plain)
    assert torch.allclose(seen[0].level.add_noise(x, e), plain, atol=1e-6)


class Owner:
    def __init__(self) -> None:
        self.kept = 1

    def double(self, x: int) -> tuple[int, int]:
        return 2 * x, id(self)


def test_patches_are_undone_exactly_and_copies_are_stock() -> None:
    owner = Owner()
    before = dict(vars(owner))
    hook = MethodHook(owner.double, lambda x: -x)
    with replaced(owner, "double", hook), replaced(owner, "kept", 2):
        assert owner.double(3) == -3 and owner.kept == 2
        twin = copy.deepcopy(owner)
        assert twin.double(3) == (6, id(twin))
    assert vars(owner) == before and owner.double(3) == (6, id(owner))
    with pytest.raises(KeyError), replaced(owner, "kept", 3):
        raise KeyError
    assert owner.kept == 1


def test_generators_among_arguments_are_rewound_and_nothing_else() -> None:
    own = torch.Generator().manual_seed(1)
    rewind = rewinder([{"generator": [own]}])
    first, outside = float(torch.rand(1, generator=own)), torch.get_rng_state()
    torch.rand(1)
    moved = torch.get_rng_state()
    rewind()
    assert float(torch.rand(1, generator=own)) == first
    assert torch.equal(torch.get_rng_state(), moved) and not torch.equal(moved, outside)


def test_encoders_answer_from_memory_only_for_the_same_input() -> None:
    class Pipe:
        def __init__(self) -> None:
            self.components: dict[str, Any] = {}
            self.calls = 0

        def encode_prompt(self, prompt: Any, scale: float = 1.0) -> tuple[int, float]:
            self.calls += 1
            return self.calls, scale

    pipe, memo = Pipe(), EncoderMemo()
    with memo.on(pipe):
        first = pipe.encode_prompt(["a", torch.ones(2)])
        assert pipe.encode_prompt(["a", torch.ones(2)]) is first
        assert pipe.encode_prompt(["a", torch.zeros(2)]) != first
        assert pipe.encode_prompt(["a", torch.ones(2)], scale=2.0) != first
        assert pipe.encode_prompt(["a", torch.ones(3)]) != first
    assert "encode_prompt" not in vars(pipe)
    with memo.on(pipe):
        assert pipe.encode_prompt(["a", torch.ones(2)]) is first
