"""The node's logic on a host of our own; tests/hosts/test_comfyui.py is the same on ComfyUI's own samplers."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import nc_refiner
from integrations import comfyui
from integrations.comfyui.calibrator import Calibrator, Run
from integrations.comfyui.holder import position
from integrations.comfyui.host import KEY
from integrations.comfyui.latents import picture_part
from integrations.comfyui.report import plot, words
from nc_refiner import NoiseCalibration, holding
from nc_refiner.noise_level import NoiseLevel

from ..published import low_pass
from .comfyui_host import Guider, Interrupted, Sampler, host, run

SIGMAS = torch.tensor([0.8, 0.5, 0.25, 0.0])


def lively(x: Tensor, sigma: Tensor, prompt: float) -> Tensor:
    """Not linear, mixes neighbours, follows the prompt."""
    return (0.7 * x + 0.3 * torch.tanh(torch.roll(x, 1, -1))) / (1 + sigma**2) + 0.2 * np.sin(prompt)


def draw(seed: int, shape: tuple[int, ...] = (2, 4, 8, 12)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENT, NOISE = draw(0), draw(1)


def mask() -> Tensor:
    """Left half kept, one column half free."""
    found = torch.zeros((1, 1, 8, 12))
    found[..., 6:] = 1
    found[..., 5] = 0.4
    return found


def calibrator(iterations: int = 3, **more: Any) -> Calibrator:
    return Calibrator(NoiseCalibration(iterations, **more), host())


class Watched(Sampler):
    """Keeps the noise it was given."""

    def sample(self, guider, sigmas, extra_args, callback, noise, *more):
        self.given, self.evaluations_before = noise.clone(), guider.evaluations
        return super().sample(guider, sigmas, extra_args, callback, noise, *more)


@pytest.fixture(params=[False, True], ids=["eps", "flow"])
def guider(request) -> Guider:
    return Guider(lively, flow=request.param)


def scales(guider: Guider) -> tuple[float, float]:
    sigma = float(SIGMAS[0])
    return (1 - sigma, sigma) if guider.inner_model.model_sampling.flow else (1.0, sigma)


@pytest.mark.parametrize("masked", [None, mask()], ids=["free", "masked"])
@pytest.mark.parametrize("config", [{"iterations": 0}, {"cutoff": 0.0}, {"cutoff": 0.1}], ids=str)
def test_what_changes_nothing_is_bit_identical(guider, config, masked):
    plain = run(guider, None, NOISE, LATENT, SIGMAS, masked)
    found = calibrator(**config)
    before = guider.evaluations
    assert torch.equal(run(guider, found, NOISE, LATENT, SIGMAS, masked), plain)
    assert guider.evaluations == before + 3 and found.last.note and found.last.level is None


@pytest.mark.parametrize("cutoff", [1.0, 0.5])
def test_the_noise_is_the_published_iteration(guider, cutoff):
    alpha, sigma = scales(guider)
    noise = NOISE.double()
    for _ in range(3):
        x = alpha * LATENT + sigma * noise.float()
        low, high = (lively(x, SIGMAS[0], prompt) for prompt in (-0.2, 0.3))
        x0 = low + 3 * (high - low)
        noise = noise - alpha / sigma * torch.from_numpy(low_pass((x0 - LATENT).double().numpy(), cutoff))
    sampler = Watched()
    run(guider, calibrator(3, cutoff=cutoff), NOISE, LATENT, SIGMAS, sampler=sampler)
    assert torch.allclose(sampler.given.double(), noise, atol=1e-5)


@pytest.mark.parametrize("masked", [None, mask()], ids=["free", "masked"])
@pytest.mark.parametrize("options", [{}, {"plus": True}, {"random": True}], ids=str)
def test_it_costs_so_many_evaluations_and_changes_nothing_else(guider, options, masked):
    for iterations in (1, 3):
        sampler, found = Watched(**options), calibrator(iterations, reuse_prediction=False)
        guider.evaluations = 0
        latents = run(guider, found, NOISE, LATENT, SIGMAS, masked, sampler)
        assert guider.evaluations == iterations + 3 and len(found.last.content_loss) == iterations
        assert torch.equal(latents, run(guider, None, sampler.given, LATENT, SIGMAS, masked, Sampler(**options)))
        if masked is not None:
            assert torch.equal(sampler.given[..., :5], NOISE[..., :5])
        for reuse in (True, None):
            saving = calibrator(iterations, reuse_prediction=reuse)
            guider.evaluations = 0
            run(guider, saving, NOISE, LATENT, SIGMAS, masked, sampler)
            assert guider.evaluations == iterations + 2 and saving.last.saved and not found.last.saved


LEFT = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize("masked", [None, mask()], ids=["free", "masked"])
def test_where_content_is_strict(guider, masked):
    plain = run(guider, None, NOISE, LATENT, SIGMAS, masked)
    strict = run(guider, calibrator(2), NOISE, LATENT, SIGMAS, masked)
    assert torch.equal(run(guider, calibrator(2, mask=torch.ones(3, 5)), NOISE, LATENT, SIGMAS, masked), strict)
    black, before = calibrator(2, mask=torch.zeros(3, 5), hold=1.0), guider.evaluations
    assert torch.equal(run(guider, black, NOISE, LATENT, SIGMAS, masked), plain)
    assert guider.evaluations == before + 3 and "black" in black.last.note
    sampler = Watched()
    run(guider, calibrator(2, mask=LEFT), NOISE, LATENT, SIGMAS, sampler=sampler)
    assert torch.equal(sampler.given[..., 6:], NOISE[..., 6:])
    assert not torch.equal(sampler.given[..., :6], NOISE[..., :6])


def test_each_picture_or_frame_has_its_own_mask(guider):
    sampler = Watched()
    each = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    run(guider, calibrator(1, mask=each), NOISE, LATENT, SIGMAS, sampler=sampler)
    assert torch.equal(sampler.given[1], NOISE[1]) and not torch.equal(sampler.given[0], NOISE[0])
    with pytest.raises(ValueError, match="has 3 pictures; needed: 1 or 2"):
        run(guider, calibrator(1, mask=torch.ones(3, 4, 4)), NOISE, LATENT, SIGMAS)
    shape = (1, 4, 3, 8, 12)
    noise, latent, clip = draw(1, shape), draw(0, shape), torch.zeros(9, 4, 4)
    clip[1:5] = 1  # the frames of the second latent frame, of a causal autoencoder
    run(guider, calibrator(1, mask=clip), noise, latent, SIGMAS, sampler=sampler)
    moved = (sampler.given - noise).abs().amax(dim=(0, 1, 3, 4)) > 0
    assert moved.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="has 8 frames for 3 of the latent"):
        run(guider, calibrator(1, mask=torch.ones(8, 4, 4)), noise, latent, SIGMAS)


@pytest.mark.parametrize("reuse", [False, True], ids=["", "reuse"])
@pytest.mark.parametrize("options", [{}, {"plus": True}], ids=str)
def test_estimates_are_held_less_and_less(guider, options, reuse):
    seen: dict[float, list[Tensor]] = {}
    for hold in (0.0, 0.5):
        given: list[Tensor] = []
        found = calibrator(1, hold=hold, reuse_prediction=reuse)
        before, left = guider.evaluations, dict(guider.model_options["transformer_options"]["wrappers"])
        run(guider, found, NOISE, LATENT, SIGMAS, sampler=Sampler(**options),
            callback=lambda index, x0, *_, given=given: given.append(x0))  # fmt: skip
        assert guider.evaluations == before + 4 - reuse and found.last.saved == reuse
        assert dict(guider.model_options["transformer_options"]["wrappers"]) == left
        seen[hold] = given
    assert torch.allclose(seen[0.5][0], seen[0.0][0] - 0.5 * (seen[0.0][0] - LATENT), atol=1e-5)
    assert not torch.equal(seen[0.5][1], seen[0.0][1])


def test_a_full_hold_ends_at_the_latent(guider, monkeypatch):
    monkeypatch.setattr(holding, "pull", lambda step, steps: 1.0)
    assert torch.allclose(run(guider, calibrator(1, hold=1.0), NOISE, LATENT, SIGMAS), LATENT, atol=1e-5)


def test_which_step_a_sigma_belongs_to():
    found = [position(SIGMAS, sigma) for sigma in (1.0, 0.8, 0.65, 0.25, 0.0)]
    assert found == pytest.approx([0, 0, 0.5, 2, 3], abs=1e-6)


def test_previews_see_the_samplers_own_steps(guider):
    seen: list[int] = []
    run(guider, calibrator(3), NOISE, LATENT, SIGMAS, callback=lambda index, *_: seen.append(index))
    assert seen == [0, 1, 2]


def test_the_first_answer_is_the_same_noise_at_the_calibrated_start(guider):
    """Same ε, another x_t: x̂₀ moves by what was taken off x_t, divided by α; so do both its guided parts."""
    alpha, sigma = scales(guider)
    given: list[Tensor] = []
    sampler = Watched()
    run(guider, calibrator(1, reuse_prediction=True), NOISE, LATENT, SIGMAS, sampler=sampler,
        callback=lambda index, x0, *_: given.append(x0))  # fmt: skip
    x = alpha * LATENT + sigma * NOISE
    low, high = (lively(x, SIGMAS[0], prompt) for prompt in (-0.2, 0.3))
    epsilon = (x - alpha * (low + 3 * (high - low))) / sigma
    start = alpha * LATENT + sigma * sampler.given
    assert torch.allclose(given[0], (start - sigma * epsilon) / alpha, atol=1e-5)


def test_a_sampler_that_asks_for_more_than_is_known_gets_a_prediction_of_its_own(guider):
    """At cfg 1 nobody computed the unconditional prediction that cfg++ wants."""
    guider.cfg = 1.0
    found = calibrator(2, reuse_prediction=True)
    run(guider, found, NOISE, LATENT, SIGMAS, sampler=Sampler(plus=True))
    assert guider.evaluations == 2 + 3 and not found.last.saved


def test_a_sampler_that_starts_elsewhere_gets_a_prediction_of_its_own(guider):
    class Elsewhere(Watched):
        def sample(self, guider, sigmas, extra_args, callback, noise, *more):
            return super().sample(guider, sigmas, extra_args, callback, noise + 0.5, *more)

    sampler, found = Elsewhere(), calibrator(2, reuse_prediction=True)
    run(guider, found, NOISE, LATENT, SIGMAS, sampler=sampler)
    assert guider.evaluations == 2 + 3 and not found.last.saved


@pytest.mark.parametrize("scale", [None, 1.0, 5.0])
def test_guidance_while_calibrating(guider, scale):
    alpha, sigma = scales(guider)
    x = alpha * LATENT + sigma * NOISE
    low, high = (lively(x, SIGMAS[0], prompt) for prompt in (-0.2, 0.3))
    x0 = low + (3 if scale is None else scale) * (high - low)
    sampler = Watched()
    run(guider, calibrator(1, guidance_scale=scale), NOISE, LATENT, SIGMAS, sampler=sampler)
    assert torch.allclose(sampler.given, NOISE - alpha / sigma * (x0 - LATENT), atol=1e-5)
    assert guider.cfg == 3.0


def test_other_guiders_decide_their_own_guidance(caplog):
    class Own(Guider):
        def predict_noise(self, x, sigma, model_options, seed=None):
            return super().predict_noise(x, sigma, model_options, seed)

    for one in (Own(lively), Guider(lively)):
        one.conds["negative"] = [-0.2] if type(one) is Own else []
        one.cfg = 3.0 if type(one) is Own else 1.0
        with caplog.at_level(logging.INFO, "nc_refiner.comfyui"):
            caplog.clear()
            run(one, calibrator(1, guidance_scale=5.0), NOISE, LATENT, SIGMAS)
        assert "decides its own guidance" in caplog.text


def test_what_is_no_refinement_is_passed_on(guider, caplog):
    cases = [
        ("adds no noise", torch.zeros_like(NOISE), LATENT, SIGMAS),
        ("latent is empty", NOISE, torch.zeros_like(LATENT), SIGMAS),
        ("no step to run", NOISE, LATENT, SIGMAS[:1]),
        ("no height and width", draw(1, (1, 4, 30)), draw(0, (1, 4, 30)), SIGMAS),
    ]
    if guider.inner_model.model_sampling.flow:
        cases.append(("pure noise", NOISE, LATENT, torch.tensor([1.0, 0.5, 0.0])))
    for say, noise, latent, sigmas in cases:
        plain, found = run(guider, None, noise, latent, sigmas), calibrator()
        guider.evaluations = 0
        assert torch.equal(run(guider, found, noise, latent, sigmas), plain)
        assert guider.evaluations == len(sigmas) - 1 and say in found.last.note


def test_a_model_that_noises_frames_unequally_is_passed_on():
    guider = Guider(lively, flow=True)
    plain_rule = guider.inner_model.model_sampling.noise_scaling
    ramp = torch.linspace(0.5, 1, 5).reshape(1, 1, 5, 1, 1)
    guider.inner_model.model_sampling.noise_scaling = lambda sigma, *more: plain_rule(sigma * ramp, *more)
    noise, latent, found = draw(1, (1, 4, 5, 8, 12)), draw(0, (1, 4, 5, 8, 12)), calibrator()
    plain = run(guider, None, noise, latent, SIGMAS)
    assert torch.equal(run(guider, found, noise, latent, SIGMAS), plain) and "unequally" in found.last.note


def test_pure_noise_is_told_once(caplog):
    guider, found = Guider(lively, flow=True), calibrator()
    for _ in range(3):
        run(guider, found, NOISE, LATENT, torch.tensor([1.0, 0.5, 0.0]))
    assert caplog.text.count("can do nothing") == 1


def test_the_first_sigma_of_full_denoise_is_scaled_as_the_sampler_scales_it():
    guider, sampler = Guider(lively), Watched()
    sigmas = torch.tensor([14.6, 3.0, 0.0])
    found = calibrator(1)
    run(guider, found, NOISE, LATENT, sigmas, sampler=sampler)
    assert found.last.level.sigma == pytest.approx((1 + 14.6**2) ** 0.5, rel=1e-6)


class Cache:
    """Skips every second evaluation it hears of, at whatever place it hooks in."""

    def __init__(self) -> None:
        self.heard = 0
        self.answer: Any = None

    def __call__(self, executor: Any, *args: Any) -> Any:
        self.heard += 1
        if self.heard % 2 == 0:
            return self.answer
        self.answer = executor(*args)
        return self.answer


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("place", ["predict_noise", "calc_cond_batch"])
def test_caches_hear_nothing_of_calibration(place, reuse):
    guider = Guider(lively, flow=True)
    sampler, found, plain = Watched(), calibrator(3, reuse_prediction=reuse), Guider(lively, flow=True)
    run(plain, calibrator(3), NOISE, LATENT, SIGMAS, sampler=sampler)
    expected = sampler.given
    cache = Cache()
    guider.wrap(place, "easycache", cache)
    options = guider.model_options
    run(guider, found, NOISE, LATENT, SIGMAS, sampler=sampler)
    assert torch.equal(sampler.given, expected) and len(found.last.content_loss) == 3
    # A cache within the guider does not see the first step where that was saved; one around it does.
    assert cache.heard == 3 - (reuse and place == "calc_cond_batch")
    assert guider.model_options is options and options["transformer_options"]["wrappers"][place]["easycache"] == [cache]


@pytest.mark.parametrize("reuse", [False, True])
def test_interrupting_leaves_everything_as_it_was(guider, reuse):
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted

    found = Calibrator(NoiseCalibration(4, guidance_scale=1.0, reuse_prediction=reuse), host(stop))
    options, inner = guider.model_options, repr(guider.model_options)
    with pytest.raises(Interrupted):
        run(guider, found, NOISE, LATENT, SIGMAS)
    assert guider.evaluations == 2 and guider.cfg == 3.0
    assert guider.model_options is options and repr(options) == inner
    # A model that fails in the sampler's own steps leaves no answer waiting for the next run.
    broken = calibrator(2, reuse_prediction=True)

    class Fails(Sampler):
        def sample(self, *_: Any) -> Tensor:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(guider, broken, NOISE, LATENT, SIGMAS, sampler=Fails())
    assert guider.model_options is options and repr(options) == inner


def test_the_users_tensors_are_not_written_to(guider):
    noise, latent, kept = NOISE.clone(), LATENT.clone(), mask()
    run(guider, calibrator(3, cutoff=0.5, reuse_prediction=True), noise, latent, SIGMAS, kept)
    assert torch.equal(noise, NOISE) and torch.equal(latent, LATENT) and torch.equal(kept, mask())


def test_random_numbers_stay_the_hosts_own(guider, global_rng_untouched):
    run(guider, calibrator(3, reuse_prediction=True), NOISE, LATENT, SIGMAS)


def test_each_picture_of_a_batch_and_each_frame_of_a_video_for_itself(guider):
    sampler = Watched()
    run(guider, calibrator(2, cutoff=0.5), NOISE, LATENT, SIGMAS, sampler=sampler)
    together = sampler.given
    run(guider, calibrator(2, cutoff=0.5), NOISE[1:], LATENT[1:], SIGMAS, sampler=sampler)
    assert torch.allclose(together[1:], sampler.given, atol=1e-6)
    as_video = [value.transpose(0, 1)[None] for value in (NOISE, LATENT)]
    run(guider, calibrator(2, cutoff=0.5), *as_video, SIGMAS, sampler=sampler)
    assert torch.allclose(together.transpose(0, 1)[None], sampler.given, atol=1e-6)


def test_packed_latents_of_video_and_sound():
    video, sound = (1, 4, 3, 8, 12), (1, 2, 10, 6)
    size = 4 * 3 * 8 * 12
    latent, noise = draw(4, (1, 1, size + 120)), draw(5, (1, 1, size + 120))
    guider, sampler = Guider(lively, flow=True), Watched()
    guider.inner_model.latent_shapes = [video, sound]
    found = calibrator(2, cutoff=0.5, reuse_prediction=True)
    run(guider, found, noise, latent, SIGMAS, sampler=sampler)
    assert torch.equal(sampler.given[..., size:], noise[..., size:]) and found.last.saved
    assert guider.evaluations == 2 + 2 and len(found.last.content_loss) == 2
    change = (sampler.given - noise)[..., :size].reshape(video).double().numpy()
    spectrum = np.abs(np.fft.fft2(change))  # nothing but the low band of each frame was changed
    inside = np.zeros((8, 12), bool)
    inside[np.ix_([0, 1, 2, 6, 7], [0, 1, 2, 3, 9, 10, 11])] = True
    assert spectrum[..., ~inside].max() < 1e-4 * spectrum.max()


@pytest.mark.parametrize(
    ("shape", "shapes", "expected"),
    [
        ((2, 4, 8, 8), None, ((2, 4, 8, 8), None)),
        ((1, 1, 384), [(1, 2, 3, 8, 8)], ((1, 2, 3, 8, 8), 0)),
        ((1, 1, 420), [(1, 36), (1, 2, 3, 8, 8)], ((1, 2, 3, 8, 8), 36)),
        ((1, 1, 420), [(1, 4, 3, 3), (1, 2, 3, 8, 8)], ((1, 2, 3, 8, 8), 36)),
        ((1, 1, 64), [(1, 1, 8, 8)], ((1, 1, 8, 8), 0)),
        ((1, 1, 64), None, None),
        ((1, 1, 64), [(1, 1, 9, 8)], None),
        ((1, 64), None, None),
    ],
)
def test_which_part_is_calibrated(shape, shapes, expected):
    found = picture_part(torch.zeros(shape), shapes)
    assert (found is None) == (expected is None)
    if found is not None:
        assert (found.shape, found.start) == expected
        whole = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        assert torch.equal(found.put(whole, found.of(whole)), whole)


def test_the_report_in_words_and_as_a_plot():
    run_ = Run(NoiseCalibration(3, 0.5), (0.4, 0.2, 0.1), NoiseLevel(0.6, 0.4), True)
    text = words(run_)
    assert "2 more than without" in text and "0.20000  after 1, 50% of the first" in text and "0.6 x latent" in text
    image = plot(run_)
    assert image.shape == (1, 300, 480, 3) and image.dtype == torch.float32
    assert not torch.equal(image, plot(Run(NoiseCalibration(3, 0.5), (0.4, 0.3, 0.3), NoiseLevel(0.6, 0.4))))
    assert "No sampler has run" in words(None)
    assert words(Run(NoiseCalibration(0), note="why")) == "Nothing was calibrated: why."
    for losses in ((0.0,), (0.1,), tuple([0.1] * 40)):
        assert plot(Run(NoiseCalibration(3), losses, NoiseLevel(1, 1))).max() == 1


@pytest.fixture
def comfy_api(monkeypatch):
    """Just enough of `comfy_api` for the entry point."""
    latest = SimpleNamespace(ComfyExtension=type("ComfyExtension", (), {}))
    monkeypatch.setitem(sys.modules, "comfy_api", SimpleNamespace(latest=latest))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)
    return latest


def awaited(coroutine):
    """Its result, from a thread of its own: the tests' browser keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def test_without_nc_refiner_one_line_says_how_to_install_it(comfy_api, monkeypatch, caplog):
    monkeypatch.setattr(comfyui.importlib.util, "find_spec", lambda name: None)
    extension = awaited(comfyui.comfy_entrypoint())
    assert isinstance(extension, comfy_api.ComfyExtension)
    assert awaited(extension.get_node_list()) == []
    (record,) = [record for record in caplog.records if "nc_refiner" in record.message]
    assert "pip install nc_refiner" in record.message and "\n" not in record.message
    assert KEY == "nc_refiner"


class TestTheFolder:
    """What the registry and ComfyUI read beside the code; ComfyUI's own readers do so in tests/hosts."""

    @pytest.fixture
    def folder(self) -> Path:
        return Path(comfyui.__file__).parent

    def test_nothing_is_executed_or_installed_at_run_time(self, folder):
        for path in folder.rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            called = {
                node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")
            }
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert not called & {"exec", "eval", "compile", "__import__"}, path
            assert not imported & {"subprocess", "os", "pip"}, path

    def test_requirements_leave_torch_alone_and_agree(self, folder):
        declared = (folder / "pyproject.toml").read_text("utf-8")
        assert (folder / "requirements.txt").read_text("utf-8").split() == ["nc_refiner"]
        assert 'dependencies = ["nc_refiner"]' in declared and "[tool.comfy]" in declared
        assert f'version = "{nc_refiner.__version__}"' in declared

    def test_each_node_has_its_page(self, folder):
        ids = re.findall(r'node_id="(\w+)"', (folder / "nodes.py").read_text("utf-8"))
        pages = {path.stem for path in (folder / comfyui.WEB_DIRECTORY / "docs").glob("*.md")}
        assert len(ids) == 2 and set(ids) == pages
        fields = re.findall(r'\.Input\(\s*"(\w+)"', (folder / "nodes.py").read_text("utf-8"))
        told = "".join((folder / "web" / "docs" / f"{name}.md").read_text("utf-8") for name in ids)
        assert all(f"**{field}**" in told for field in fields) and len(fields) == 12

    def test_workflows_hold_together(self, folder):
        paths = sorted((folder / "example_workflows").glob("*.json"))
        assert len(paths) == 4
        for path in paths:
            document = json.loads(path.read_text("utf-8"))
            uuid.UUID(document["id"])
            by_id = {node["id"]: node for node in document["nodes"]}
            assert document["last_node_id"] == max(by_id) and path.with_suffix(".jpg").is_file()
            for link, source, slot, target, place, kind in document["links"]:
                out, into = by_id[source]["outputs"][slot], by_id[target]["inputs"][place]
                assert link in out["links"] and into["link"] == link and out["type"] == into["type"] == kind
            (ours,) = (node for node in document["nodes"] if node["type"] == "NoiseCalibration")
            iterations, cutoff, reuse, guidance, *rest = ours["widgets_values"]
            assert NoiseCalibration(iterations, cutoff, None, reuse) and reuse and guidance == -1
            assert rest == [0.0, "paper", 1.0, 0.0]

    def test_the_publishing_workflow_publishes_this_folder(self, folder):
        found = yaml.safe_load((folder / ".github" / "workflows" / "publish.yml").read_text("utf-8"))
        (job,) = found["jobs"].values()
        commands = [step.get("run", "") for step in job["steps"]]
        assert any("node publish" in command for command in commands)
