"""Everything users already do with a pipeline, with calibration on."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tiny_parts import picture
from watching import Seen, counted
from zoo import IMAGES, generate
from zoo_video import VIDEOS

import nc_refiner

REFINER = IMAGES["StableDiffusionXLImg2ImgPipeline (refiner)"]


@pytest.fixture
def pipe() -> Any:
    return REFINER.build()


def both(pipe: Any, entry: Any = REFINER, iterations: int = 2, **changed: Any) -> torch.Tensor:
    """Checks that both engines agree under these arguments and change something; returns the calibrated result."""
    stock = generate(pipe, entry, **fresh(changed))
    assert torch.equal(generate(nc_refiner.wrap(pipe, iterations=0), entry, **fresh(changed)), stock)
    results = [
        generate(nc_refiner.wrap(pipe, iterations=iterations, mode=mode), entry, **fresh(changed))
        for mode in ("in_loop", "replay")
    ]
    assert torch.equal(*results)
    assert not torch.equal(results[0], stock)
    return results[0]


def fresh(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in arguments.items()}


def two_generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (1, 2)]


BATCHES: dict[str, dict[str, Any]] = {
    "prompts": {"prompt": ["a camel", "rain"], "negative_prompt": ["", "a"], "image": lambda: picture(2)},
    "images per prompt": {"num_images_per_prompt": 2},
    "a generator each": {"num_images_per_prompt": 2, "generator": two_generators},
    "rescaled guidance": {"guidance_rescale": 0.7},
    "no guidance": {"guidance_scale": 1.0},
    "decoded": {"output_type": "pt"},
    "denoising_end": {"denoising_end": 0.8},
    "own timesteps": {"timesteps": [900, 700, 500, 300, 100]},
}


@pytest.mark.parametrize("name", BATCHES)
def test_arguments(pipe: Any, name: str) -> None:
    both(pipe, **BATCHES[name])


def test_a_sample_of_a_batch_does_not_depend_on_its_neighbour(pipe: Any) -> None:
    wrapped = nc_refiner.wrap(pipe, iterations=2)
    pair = generate(wrapped, REFINER, num_images_per_prompt=2, generator=two_generators())
    single = generate(wrapped, REFINER, generator=two_generators()[1])
    assert torch.allclose(pair[1:], single, atol=1e-4)


def test_output_types_and_tuple(pipe: Any) -> None:
    wrapped = nc_refiner.wrap(pipe, iterations=1)
    call = {"image": picture(), "prompt": "a", "strength": 0.5, "num_inference_steps": 4}
    out = wrapped(**call)
    assert type(out).__name__ == "StableDiffusionXLPipelineOutput" and out.images[0].size == (32, 32)
    assert isinstance(wrapped(**call, return_dict=False), tuple)
    positional = wrapped("a", **{key: value for key, value in call.items() if key != "prompt"})
    assert len(positional.images) == 1


def test_callbacks_see_the_same_indices(pipe: Any) -> None:
    def watch(pipe: Any) -> list[tuple[int, float, int]]:
        seen: list[tuple[int, float, int]] = []

        def callback(called: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            assert called is pipe
            seen.append((index, float(timestep), called.num_timesteps))
            return {"latents": tensors["latents"] * 0.9}

        generate(pipe, REFINER, callback_on_step_end=callback)
        return seen

    stock = watch(pipe)
    assert len(stock) == 3
    for mode in ("in_loop", "replay"):
        assert watch(nc_refiner.wrap(pipe, iterations=3, mode=mode)) == stock
    both(pipe, callback_on_step_end=lambda: lambda pipe, i, t, tensors: {"latents": tensors["latents"] * 0.9})


def test_interrupting_from_a_callback(pipe: Any) -> None:
    def stop(called: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        called._interrupt = index == 1
        return tensors

    both(pipe, callback_on_step_end=lambda: stop)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"callback": lambda *_: None, "callback_steps": 1}, "deprecated `callback`"),
        ({"callback_on_step_end": "cutoff"}, "PipelineCallback"),
    ],
)
def test_replay_is_chosen_once_and_said(pipe: Any, arguments: dict[str, Any], reason: str) -> None:
    from diffusers.callbacks import SDXLCFGCutoffCallback

    if arguments.get("callback_on_step_end") == "cutoff":
        arguments = {"callback_on_step_end": SDXLCFGCutoffCallback(cutoff_step_ratio=0.5)}
    wrapped = nc_refiner.wrap(pipe, iterations=1)
    with pytest.warns(UserWarning, match=reason):
        first = generate(wrapped, REFINER, **arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(generate(wrapped, REFINER, **arguments), first)
    assert not [warning for warning in caught if "by replay" in str(warning.message)]
    with pytest.raises(RuntimeError, match="mode='replay'"):
        generate(nc_refiner.wrap(pipe, iterations=1, mode="in_loop"), REFINER, **arguments)


def test_control_guidance_window_is_replayed() -> None:
    entry = IMAGES["StableDiffusionXLControlNetImg2ImgPipeline"]
    pipe = entry.build()
    with pytest.warns(UserWarning, match="control_guidance_end"):
        short = generate(nc_refiner.wrap(pipe, iterations=1), entry, control_guidance_end=0.5)
    assert not torch.equal(short, generate(nc_refiner.wrap(pipe, iterations=1), entry))


def test_enforced_steps_are_replayed() -> None:
    entry = VIDEOS["AnimateDiffVideoToVideoPipeline"]
    pipe = entry.build()
    stock = generate(pipe, entry, enforce_inference_steps=True)
    with pytest.warns(UserWarning, match="enforce_inference_steps"):
        assert not torch.equal(
            generate(nc_refiner.wrap(pipe, iterations=1), entry, enforce_inference_steps=True), stock
        )


def test_feature_cache_is_replayed_and_never_stale() -> None:
    from diffusers import FirstBlockCacheConfig

    entry = VIDEOS["CogVideoXVideoToVideoPipeline"]
    pipe = entry.build()
    exact = nc_refiner.wrap(pipe, iterations=2)
    generate(exact, entry)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))  # high: every later step is cached
    stock = generate(pipe, entry)
    cached = nc_refiner.wrap(pipe, iterations=2)
    with pytest.warns(UserWarning, match="feature cache"):
        generate(cached, entry)
    assert cached.calibration_trace == exact.calibration_trace
    assert torch.equal(generate(pipe, entry), stock)


def test_lora(pipe: Any) -> None:
    from peft import LoraConfig

    plain = both(pipe)
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_v"], init_lora_weights=False))
    full = both(pipe)
    half = both(pipe, cross_attention_kwargs={"scale": 0.5})
    assert not torch.equal(plain, full) and not torch.equal(full, half)


def test_ip_adapter(pipe: Any) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    width, layers = pipe.unet.config.cross_attention_dim, {}
    for place, name in enumerate(pipe.unet.attn_processors):
        if "attn2" in name:
            hidden = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            layers[f"{place}.to_k_ip.weight"] = draw(hidden, width)
            layers[f"{place}.to_v_ip.weight"] = draw(hidden, width)
    projection = {
        "proj.weight": draw(4 * width, 16),
        "proj.bias": draw(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    plain = both(pipe)
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": layers}])
    embeds = torch.cat([torch.zeros(1, 1, 16), draw(1, 1, 16)])
    assert not torch.equal(both(pipe, ip_adapter_image_embeds=[embeds]), plain)


def test_vae_tiling_and_slicing(pipe: Any) -> None:
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    both(pipe, image=lambda: picture(2, 64), prompt=["a", "rain"], negative_prompt=["", ""], output_type="pt")


def test_compiled_network_is_not_compiled_again(pipe: Any) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    eager = generate(nc_refiner.wrap(pipe, iterations=2), REFINER)
    pipe.unet = torch.compile(pipe.unet, backend=counter)
    generate(pipe, REFINER)
    compiled = counter.frame_count
    assert compiled > 0
    for mode in ("in_loop", "replay"):
        assert torch.allclose(generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), REFINER), eager, atol=1e-4)
    assert counter.frame_count == compiled


@pytest.mark.parametrize("mode", ["in_loop", "replay"])
def test_offload_hooks_run_in_the_same_order(pipe: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.hooks import CpuOffload

    order: list[str] = []
    before = CpuOffload.pre_forward

    def noting(self: Any, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        name = type(module).__name__
        if not order or order[-1] != name:
            order.append(name)
        return before(self, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", noting)
    expected = generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), REFINER, output_type="pt")
    pipe.enable_model_cpu_offload(device="cpu")
    generate(pipe, REFINER, output_type="pt")
    stock = list(order)
    assert len(stock) >= 3
    order.clear()
    wrapped = nc_refiner.wrap(pipe, iterations=2, mode=mode)
    assert torch.equal(generate(wrapped, REFINER, output_type="pt"), expected)
    # By replay too: the encoders are remembered, so later passes go straight to the network.
    assert order == stock
    order.clear()
    generate(pipe, REFINER, output_type="pt")
    assert order == stock


def test_conditional_calibration_is_replayed_at_half_the_cost(pipe: Any, seen: Seen) -> None:
    sizes: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    wrapped = nc_refiner.wrap(pipe, iterations=2, guidance_scale=1.0)
    with pytest.warns(UserWarning, match="guidance scale"):
        generate(wrapped, REFINER)
    handle.remove()
    assert sizes == [1, 1, 2, 2, 2]  # what was predicted under another guidance is not used again
    generate(nc_refiner.wrap(pipe, iterations=2), REFINER, guidance_scale=1.0, negative_prompt=...)
    assert torch.equal(seen.ends[0], seen.ends[1])
    with pytest.raises(RuntimeError, match="guidance scale"):
        generate(nc_refiner.wrap(pipe, iterations=1, guidance_scale=1.0, mode="in_loop"), REFINER)
    with pytest.raises(ValueError, match="cannot go together"), pytest.warns(UserWarning):
        generate(nc_refiner.wrap(pipe, iterations=1, guidance_scale=1.0, reuse_prediction=True), REFINER)


def test_conditional_calibration_is_refused_without_guidance() -> None:
    entry = IMAGES["FluxControlImg2ImgPipeline"]
    with pytest.raises(ValueError, match="no classifier-free guidance"), pytest.warns(UserWarning):
        generate(nc_refiner.wrap(entry.build(), iterations=1, guidance_scale=1.0), entry)


def test_stopping_early(pipe: Any) -> None:
    wrapped = nc_refiner.wrap(pipe, iterations=5, tolerance=1e6)
    stock = generate(pipe, REFINER)
    with counted(pipe) as calls, pytest.warns(UserWarning, match="stopping early"):
        assert torch.equal(generate(wrapped, REFINER), stock)
    assert len(calls) == 3  # the first prediction was good enough, and served the first step
    assert len(wrapped.calibration_trace.content_loss) == 1


def test_replay_remembers_the_encoders(pipe: Any) -> None:
    texts: list[int] = []
    images: list[int] = []
    encode = pipe.vae.encode
    handle = pipe.text_encoder_2.register_forward_pre_hook(lambda *_: texts.append(1))
    vars(pipe.vae)["encode"] = lambda *args, **kwargs: (images.append(1), encode(*args, **kwargs))[1]
    generate(pipe, REFINER)
    stock = (len(texts), len(images))
    generate(nc_refiner.wrap(pipe, iterations=3, mode="replay"), REFINER)
    handle.remove()
    assert (len(texts), len(images)) == (2 * stock[0], 2 * stock[1])


def test_global_random_state_ends_as_after_a_stock_call(pipe: Any) -> None:
    def after(pipe: Any) -> torch.Tensor:
        torch.manual_seed(3)
        generate(pipe, REFINER, generator=None)
        return torch.get_rng_state()

    kept = torch.get_rng_state()
    stock = after(pipe)
    for mode in ("in_loop", "replay"):
        assert torch.equal(after(nc_refiner.wrap(pipe, iterations=2, mode=mode)), stock)
    torch.set_rng_state(kept)


def test_errors_leave_no_hooks(pipe: Any) -> None:
    wrapped = nc_refiner.wrap(pipe, iterations=1)
    before = (sorted(vars(wrapped)), sorted(vars(wrapped.scheduler)), sorted(vars(pipe.vae)))

    def failing(*_: Any) -> dict[str, Any]:
        raise KeyError("from the user's callback")

    for mode in ("in_loop", "replay"):
        wrapped = nc_refiner.wrap(pipe, iterations=1, mode=mode)
        with pytest.raises(KeyError, match="from the user's callback"):
            generate(wrapped, REFINER, callback_on_step_end=failing)
        names = set(vars(wrapped)) - set(before[0])
        assert all(name.startswith("_") and not callable(vars(wrapped)[name]) for name in names)
        assert "step" not in vars(wrapped.scheduler) and "add_noise" not in vars(wrapped.scheduler)
        assert sorted(vars(pipe.vae)) == before[2]


def test_changing_the_scheduler_of_a_wrapped_pipeline(pipe: Any) -> None:
    from diffusers import DDIMScheduler

    wrapped = nc_refiner.wrap(pipe, iterations=1)
    wrapped.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
    changed = copy.copy(pipe)
    changed.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert torch.equal(generate(wrapped, REFINER), generate(nc_refiner.wrap(changed, iterations=1), REFINER))
