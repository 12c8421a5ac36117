"""Arms of an experiment share a pipeline and run in threads: each must get what it would get alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tiny_parts import picture
from zoo import IMAGES, generate

import nc_refiner
from nc_refiner import CalibratedRefiner, VideoClip

ENTRY = IMAGES["StableDiffusionImg2ImgPipeline"]
CLIP = VideoClip(picture(1))
THREADS, CALLS = 4, 25


def arm(pipe: Any, entry: Any = ENTRY, **options: Any) -> Callable[[int], torch.Tensor]:
    twin = nc_refiner.wrap(pipe, **options)
    return lambda seed: generate(twin, entry, seed=seed)


def refiner(pipe: Any, **calibration: Any) -> Callable[[int], torch.Tensor]:
    made = CalibratedRefiner.from_pipe(pipe, **calibration)

    def refine(seed: int) -> torch.Tensor:
        result = made(CLIP, strength=0.5, num_inference_steps=4, seed=seed)
        found = result.receipt["evaluations"]
        counts = torch.tensor([found["calibration"], found["denoising"]], dtype=result.clip.frames.dtype)
        return torch.cat([result.clip.frames.flatten(), counts])

    return refine


def arms(pipe: Any) -> list[Callable[[int], torch.Tensor]]:
    return [
        arm(pipe, iterations=0),
        arm(pipe, iterations=2),
        arm(pipe, iterations=2, mode="replay"),
        arm(pipe, iterations=1, reuse_prediction=True, mode="replay"),
        refiner(pipe, iterations=1),
        refiner(pipe, iterations=1, reuse_prediction=True),
    ]


def state(pipe: Any) -> list[Any]:
    """What the user's objects hold: names and identities of the attributes of the pipeline and of every module."""
    owners = [pipe, pipe.scheduler]
    owners += [part for model in (pipe.unet, pipe.vae, pipe.text_encoder) for part in model.modules()]
    return [{name: id(value) for name, value in vars(owner).items()} for owner in owners]


@pytest.mark.slow
def test_mixed_arms_in_four_threads_are_bit_equal_to_serial() -> None:
    pipe = ENTRY.build()
    generate(pipe, ENTRY)  # a first call leaves attributes of its own
    before, made = state(pipe), arms(pipe)
    jobs = [(index % len(made), index) for index in range(THREADS * CALLS)]
    expected = [made[kind](seed) for kind, seed in jobs]
    assert len({tuple(result.shape) for result in expected}) > 1
    torch.manual_seed(5)
    wanted = [float(torch.rand(1)) for _ in range(400)]
    torch.manual_seed(5)
    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(made[kind], seed) for kind, seed in jobs]
        # Meanwhile this thread uses the global generator: nobody may move it or set it back.
        drawn = []
        while len(drawn) < len(wanted):
            drawn.append(float(torch.rand(1)))
            threading.Event().wait(0.005)
        found = [future.result() for future in running]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert drawn == wanted
    assert state(pipe) == before


def test_two_refiners_over_one_pipeline() -> None:
    pipe = ENTRY.build()
    generate(pipe, ENTRY)
    before = state(pipe)
    made = [refiner(pipe, iterations=1, reuse_prediction=True), refiner(pipe, iterations=2)]
    jobs = [(index % 2, index) for index in range(8)]
    expected = [made[kind](seed) for kind, seed in jobs]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda job: made[job[0]](job[1]), jobs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert state(pipe) == before


def test_one_refiner_in_two_threads() -> None:
    made = refiner(ENTRY.build(), iterations=1)
    expected = [made(seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        assert all(torch.equal(*pair) for pair in zip(pool.map(made, range(6)), expected, strict=True))


def test_blocks_that_end_in_another_order_leave_nothing() -> None:
    pipe = ENTRY.build()
    stock, cls = generate(pipe, ENTRY), type(pipe)
    one, two = (generate(nc_refiner.wrap(pipe, iterations=n), ENTRY) for n in (1, 2))
    before = [sorted(held) for held in state(pipe)]
    inside, leave = threading.Barrier(2), [threading.Event(), threading.Event()]

    def block(number: int) -> torch.Tensor:
        with nc_refiner.calibrated(pipe, iterations=number + 1):
            inside.wait(30)
            found = generate(pipe, ENTRY)
            leave[number].wait(30)
        return found

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(block, number) for number in (0, 1)]
        for number in (0, 1):  # whichever was entered first, the first is left first
            leave[number].set()
            running[number].result(60)
        found = [future.result() for future in running]
    assert torch.equal(found[0], one) and torch.equal(found[1], two)
    assert type(pipe) is cls and [sorted(held) for held in state(pipe)] == before
    assert torch.equal(generate(pipe, ENTRY), stock)


def test_a_stock_call_beside_a_replay_is_a_stock_call() -> None:
    pipe = ENTRY.build()
    expected = [generate(pipe, ENTRY, seed=seed) for seed in range(4)]
    replays = arm(pipe, iterations=2, mode="replay")
    wanted = [replays(seed) for seed in range(4)]
    stock = nc_refiner.wrap(pipe, iterations=0)
    with ThreadPoolExecutor(2) as pool:
        both = [(pool.submit(replays, seed), pool.submit(generate, stock, ENTRY, seed)) for seed in range(4)]
        for seed, (replayed, plain) in enumerate(both):
            assert torch.equal(replayed.result(), wanted[seed]) and torch.equal(plain.result(), expected[seed])


def test_replay_without_a_generator_never_sets_the_global_one_back() -> None:
    """It draws from a stream of its own, and leaves the global one where a stock call leaves it."""
    pipe = ENTRY.build()
    states: list[torch.Tensor] = []
    encode = pipe.vae.encode
    vars(pipe.vae)["encode"] = lambda *args, **kwargs: (states.append(torch.get_rng_state()), encode(*args, **kwargs))[
        1
    ]
    twin = nc_refiner.wrap(pipe, iterations=2, mode="replay")
    torch.manual_seed(3)
    start = torch.get_rng_state()
    generate(twin, ENTRY, generator=None)
    assert states and all(torch.equal(found, start) for found in states)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    generate(pipe, ENTRY, generator=None)
    assert torch.equal(after, torch.get_rng_state())


def test_pag_processors_do_not_mix() -> None:
    entry = IMAGES["StableDiffusionPAGImg2ImgPipeline"]
    pipe = entry.build()
    before = dict(pipe.unet.attn_processors)
    made = [arm(pipe, entry, iterations=1), arm(pipe, entry, iterations=1, mode="replay")]
    expected = [made[index % 2](index) for index in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda index: made[index % 2](index), range(6)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert pipe.unet.attn_processors == before
