"""Every pipeline of the zoo with its default scheduler: the promises `wrap` makes."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from watching import Seen, counted, own_estimate
from zoo import IMAGES, Entry, generate
from zoo_more import MORE
from zoo_video import VIDEOS

import nc_refiner
from nc_refiner.adapters.diffusers.tested import TESTED

FLUX = IMAGES["FluxImg2ImgPipeline"]
ZOO: dict[str, Entry] = {**IMAGES, **VIDEOS, **MORE}
REPLAYED = {
    "FluxControlInpaintPipeline": "changes the latents between its steps",
    "LTX2ConditionPipeline": "get_timesteps",
    "LTX2InContextPipeline": "get_timesteps",
    "LTX2Pipeline": "get_timesteps",
    "LatentConsistencyModelImg2ImgPipeline": "get_timesteps",
}
"""Pipelines with no way into their loop, and what tells."""
IN_LOOP = [name for name in ZOO if name not in REPLAYED]


def marked(names: Iterable[str]) -> list[Any]:
    """The further pipelines are slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow if name in MORE else ()) for name in names]


@functools.cache
def pipeline(name: str) -> Any:
    return ZOO[name].build()


def run(pipe: Any, name: str, **changed: Any) -> torch.Tensor:
    out: torch.Tensor = generate(pipe, ZOO[name], **changed)
    return out


@functools.cache
def stock(name: str) -> torch.Tensor:
    return run(pipeline(name), name)


def test_the_table_of_tested_pipelines_is_this_zoo() -> None:
    assert {name.partition(" ")[0] for name in ZOO} == set(TESTED)


@pytest.mark.parametrize("name", marked(ZOO))
def test_nothing_changes_without_calibration(name: str) -> None:
    pipe, _ = pipeline(name), stock(name)
    with counted(pipe) as calls:
        assert torch.equal(run(nc_refiner.wrap(pipe, iterations=0), name), stock(name))
        plain = len(calls)
        assert torch.equal(run(nc_refiner.wrap(pipe, iterations=3, cutoff=0.0), name), stock(name))
        assert len(calls) == 2 * plain
    if name in IN_LOOP:
        assert torch.equal(run(nc_refiner.wrap(pipe, iterations=2, cutoff=0.01, mode="in_loop"), name), stock(name))
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=2, cutoff=0.01, mode="replay"), name), stock(name))


@pytest.mark.parametrize("name", marked(IN_LOOP))
@pytest.mark.parametrize("reuse", [False, True], ids=["", "reuse"])
def test_in_loop_equals_replay_and_costs_n_evaluations(name: str, reuse: bool) -> None:
    pipe, iterations = pipeline(name), 2
    options: dict[str, Any] = {"iterations": iterations, "cutoff": 0.5 if reuse else 1.0, "reuse_prediction": reuse}
    with counted(pipe) as calls:
        run(pipe, name)
        plain, per_step = len(calls), evaluations_per_step(pipe, name)
        results = []
        for mode in ("in_loop", "replay"):
            calls.clear()
            wrapped = nc_refiner.wrap(pipe, mode=mode, **options)
            generator = torch.Generator().manual_seed(0)
            results.append(run(wrapped, name, generator=generator))
            assert len(calls) == plain + (iterations - reuse) * per_step
            assert len(wrapped.calibration_trace.content_loss) == iterations
            assert torch.equal(generator.get_state(), generator_after_stock(name))
    assert torch.equal(*results)
    assert not torch.equal(results[0], stock(name))


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "FluxImg2ImgPipeline", "WanVideoToVideoPipeline"])
@pytest.mark.parametrize("mode", ["in_loop", "replay"])
def test_reuse_is_the_default_and_one_iteration_costs_nothing(name: str, mode: str) -> None:
    pipe = pipeline(name)
    results = {}
    with counted(pipe) as calls:
        run(pipe, name)
        plain, per_step = len(calls), evaluations_per_step(pipe, name)
        for reuse in (None, True, False):
            calls.clear()
            results[reuse] = run(nc_refiner.wrap(pipe, iterations=1, reuse_prediction=reuse, mode=mode), name)
            assert len(calls) == plain + (per_step if reuse is False else 0)
    assert torch.equal(results[None], results[True]) and not torch.equal(results[None], results[False])
    assert not torch.equal(results[None], stock(name))


@pytest.mark.parametrize("name", marked(REPLAYED))
def test_auto_replays_where_there_is_no_way_into_the_loop(name: str) -> None:
    pipe = pipeline(name)
    with pytest.raises(RuntimeError, match=REPLAYED[name]):
        run(nc_refiner.wrap(pipe, iterations=2, mode="in_loop"), name)
    expected = run(nc_refiner.wrap(pipe, iterations=2, mode="replay"), name)
    wrapped = nc_refiner.wrap(pipe, iterations=2)
    with pytest.warns(UserWarning, match="by replay"):
        assert torch.equal(run(wrapped, name), expected)
    assert not torch.equal(expected, stock(name)) and len(wrapped.calibration_trace.content_loss) == 2


@functools.cache
def generator_after_stock(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    run(pipeline(name), name, generator=generator)
    return generator.get_state()


def evaluations_per_step(pipe: Any, name: str) -> int:
    """Two where the pipeline calls its network once for each side of the guidance, else one."""
    with counted(pipe) as calls:
        seen: list[int] = []
        scheduler, step = pipe.scheduler, pipe.scheduler.step

        def watch(*args: Any, **kwargs: Any) -> Any:
            seen.append(len(calls))
            return step(*args, **kwargs)

        watch.__wrapped__ = step  # type: ignore[attr-defined]
        vars(scheduler)["step"] = watch
        try:
            run(pipe, name)
        finally:
            del vars(scheduler)["step"]
    return seen[0]


@pytest.mark.parametrize("name", marked(ZOO))
def test_estimate_and_fixed_point(name: str, seen: Seen) -> None:
    run(nc_refiner.wrap(pipeline(name), iterations=1, mode="replay"), name)
    made = seen.estimates[0]
    _, reference, level = seen.starts[0]
    own = own_estimate(made)
    assert float((made.x0 - own).abs().max()) <= 1e-5 * max(1.0, float(own.abs().max()))
    # At cutoff 1 the estimate at the calibrated latents, with the same ε, is the reference itself.
    calibrated = level.noise_in(seen.ends[0].double(), reference.double())
    epsilon = level.noise_in(made.sample.double(), made.x0.double())
    a, b = calibrated.flatten().sort().values, epsilon.flatten().sort().values  # whatever the layout
    assert float((a - b).abs().max()) <= 1e-6 * max(1.0, float(epsilon.abs().max()))


@pytest.mark.parametrize(
    "name",
    [
        "FluxImg2ImgPipeline",
        "AnimateDiffVideoToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "WanVideoToVideoPipeline",
    ],
)
def test_half_precision(name: str) -> None:
    pipe = ZOO[name].build().to(torch.bfloat16)
    embeds = {k: v.bfloat16() for k, v in ZOO[name].arguments().items() if k.endswith("_embeds")}
    plain = run(pipe, name, **embeds)
    assert torch.equal(run(nc_refiner.wrap(pipe, iterations=0), name, **embeds), plain)
    for options in ({"iterations": 2}, {"iterations": 2, "cutoff": 0.5, "reuse_prediction": True}):
        in_loop = run(nc_refiner.wrap(pipe, mode="in_loop", **options), name, **embeds)
        assert torch.equal(in_loop, run(nc_refiner.wrap(pipe, mode="replay", **options), name, **embeds))
        assert not torch.equal(in_loop, plain)


def test_flow_shifted_by_resolution() -> None:
    """Flux as it ships: the schedule depends on the size of the picture."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = FLUX.build()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=16, max_image_seq_len=256
    )
    results = [generate(nc_refiner.wrap(pipe, iterations=2, mode=mode), FLUX) for mode in ("in_loop", "replay")]
    assert torch.equal(*results)
    assert torch.equal(generate(nc_refiner.wrap(pipe, iterations=0), FLUX), generate(pipe, FLUX))

    call = {"max_sequence_length": 8}
    adapter = nc_refiner.CalibratedRefiner.from_pipe(pipe, call, iterations=1).adapter
    start = adapter.timesteps(5, 0.6).first
    by_size = {}
    for size in (32, 96):
        adapter.encode(torch.rand(1, 3, size, size))
        by_size[size] = adapter.noise_level(start).sigma
    assert by_size[32] < by_size[96]


@pytest.mark.parametrize("name", marked(ZOO))
def test_unwrapping_leaves_no_trace(name: str) -> None:
    pipe = pipeline(name)
    stock(name)
    before = snapshot(pipe)
    wrapped = nc_refiner.wrap(pipe, iterations=1)
    assert isinstance(wrapped, type(pipe))
    run(wrapped, name)
    assert nc_refiner.unwrap(wrapped) is pipe
    assert snapshot(pipe) == before
    with nc_refiner.calibrated(pipe, iterations=1) as same:
        assert same is pipe
        calibrated = run(pipe, name)
    after = snapshot(pipe)
    assert after["class"] == before["class"] and after["names"] == before["names"]
    assert after["parts"] == before["parts"]
    assert torch.equal(calibrated, run(wrapped, name))
    assert torch.equal(run(pipe, name), stock(name))


def snapshot(pipe: Any) -> dict[str, Any]:
    """Class, attributes by identity, and everything a hook could hide in: instance dictionaries of all parts."""
    return {
        "class": type(pipe),
        "names": sorted(vars(pipe)),
        "attributes": {name: id(value) for name, value in vars(pipe).items() if name.startswith(("_nc", "scheduler"))},
        "scheduler": {
            k: v if isinstance(v, (int, float, str, bool)) else None for k, v in vars(pipe.scheduler).items()
        },
        "parts": {
            name: (
                sorted(vars(part)),
                sorted(vars(part).get("_forward_hooks", {})),
                [type(module).__name__ for module in part.modules()] if isinstance(part, torch.nn.Module) else None,
                {k: id(v) for k, v in part.attn_processors.items()} if hasattr(part, "attn_processors") else None,
            )
            for name, part in pipe.components.items()
            if hasattr(part, "__dict__")
        },
    }
