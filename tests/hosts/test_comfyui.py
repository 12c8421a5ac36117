"""The nodes on ComfyUI's own samplers: `COMFYUI_ROOT=path/to/clone pytest -m slow tests/hosts/test_comfyui.py`.

Skipped, with the reason, without a clone. The models are small; everything around them is ComfyUI's.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from integrations.comfyui.calibrator import Calibrator
from integrations.comfyui.host import KEY, comfyui
from nc_refiner import NoiseCalibration, holding

from ..published import low_pass
from .comfyui_rig import Rig, checkout, computable, gain, imported, picture, prompt, small_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

KINDS = ("EPS", "V_PREDICTION", "FLOW")
LATENT, NOISE = picture(), picture(seed=1)


@pytest.fixture(scope="module")
def comfy():
    return imported(checkout())


@pytest.fixture(scope="module")
def rigs(comfy):
    return {kind: Rig(comfy, kind) for kind in KINDS}


def mask() -> Tensor:
    """Right half free, left half kept, one column in between."""
    found = torch.zeros((1, 1, 8, 12))
    found[..., 6:] = 1
    found[..., 5] = 0.4
    return found


def calibrator(iterations: int = 3, **more: Any) -> Calibrator:
    return Calibrator(NoiseCalibration(iterations, **more), comfyui())


def scales(kind: str, sigma: float) -> tuple[float, float]:
    return (1 - sigma, sigma) if kind == "FLOW" else (1.0, sigma)


def names() -> list[str]:
    """Every sampler that starts from noise: all of them. Without a checkout one name stands for the skipped test."""
    try:
        return list(imported(checkout()).samplers.SAMPLER_NAMES)
    except pytest.skip.Exception:
        return ["every sampler"]


@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
@pytest.mark.parametrize("sampler", names())
@pytest.mark.parametrize("kind", KINDS)
class TestEverySampler:
    def test_what_changes_nothing_is_bit_identical(self, comfy, rigs, kind, sampler, masked):
        rig, more = rigs[kind], {"noise": NOISE, "latent": LATENT, "mask": mask() if masked else None}
        plain, count = rig.run(sampler, **more), rig.count
        # At 8×12 a cutoff of 0.1 is less than one frequency: an empty low band.
        for config in ({"iterations": 0}, {"cutoff": 0.0}, {"cutoff": 0.1}):
            found = calibrator(**config)
            assert torch.equal(rig.run(sampler, found, **more), plain) and rig.count == count
            assert found.last is not None and found.last.level is None and found.last.note

    def test_it_costs_so_many_evaluations_and_starts_from_the_calibrated_noise(
        self, comfy, rigs, kind, sampler, masked
    ):
        rig, more = rigs[kind], {"noise": NOISE, "latent": LATENT, "mask": mask() if masked else None}
        for iterations in (1, 2, 3):
            found = calibrator(iterations, reuse_prediction=False)
            latents, count, start = rig.run(sampler, found, **more), rig.count, rig.started
            # From the calibrated noise the untouched sampler does the same, to the bit, and counts its own evaluations.
            plain = rig.run(sampler, **{**more, "noise": start})
            assert torch.equal(latents, plain) and count == rig.count + iterations
            assert len(found.last.content_loss) == iterations and not found.last.saved
            if masked:
                assert torch.equal(start[..., :5], NOISE[..., :5]) and torch.equal(latents[..., :5], plain[..., :5])
            saving = calibrator(iterations)
            rig.run(sampler, saving, **more)
            assert torch.equal(rig.started, start) and saving.last.saved
            if sampler != "dpm_adaptive":  # whose number of steps depends on what it sees
                assert rig.count == count - 1


@pytest.mark.parametrize("cutoff", [1.0, 0.5])
@pytest.mark.parametrize("sampler", ["euler", "ddim", "uni_pc"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_is_the_published_iteration(comfy, rigs, kind, sampler, cutoff):
    """noise ← noise − (α/σ)·L(x̂₀ − latent), computed here in NumPy over ComfyUI's own prediction."""
    rig = rigs[kind]
    sigma = float(rig.sigmas(sampler=sampler)[0])
    alpha, scale = scales(kind, sigma)
    noise = NOISE.double()
    for _ in range(3):
        x0 = predicted(comfy, rig.model, alpha * LATENT + scale * noise.float(), sigma)
        noise = noise - alpha / scale * torch.from_numpy(low_pass((x0 - LATENT).double().numpy(), cutoff))
    rig.run(sampler, calibrator(3, cutoff=cutoff), noise=NOISE, latent=LATENT)
    assert torch.allclose(rig.started.double(), noise, atol=1e-5)


@pytest.mark.parametrize("sampler", names())
@pytest.mark.parametrize("kind", KINDS)
def test_masks_and_a_hold_in_every_sampler(comfy, rigs, kind, sampler, monkeypatch):
    rig, more = rigs[kind], {"noise": NOISE, "latent": LATENT}
    plain, strict = rig.run(sampler, **more), rig.run(sampler, calibrator(1), **more)
    assert torch.equal(rig.run(sampler, calibrator(1, mask=torch.ones(3, 5)), **more), strict)
    assert torch.equal(rig.run(sampler, calibrator(1, mask=torch.zeros(3, 5), hold=1.0), **more), plain)
    rig.run(sampler, calibrator(1, mask=torch.tensor([[1.0, 0.0]])), **more)
    assert torch.equal(rig.started[..., 6:], NOISE[..., 6:]) and not torch.equal(rig.started[..., :6], NOISE[..., :6])
    count = rig.count
    half = rig.run(sampler, calibrator(1, mask=torch.tensor([[1.0, 0.0]]), hold=0.5), **more)
    assert torch.isfinite(half).all() and (rig.count == count or sampler == "dpm_adaptive")
    assert not torch.equal(half, strict)
    monkeypatch.setattr(holding, "pull", lambda step, steps: 1.0)
    held = rig.run(sampler, calibrator(1, hold=1.0), **more)
    # Free of the pull's fading, the last steps land near the latent. Samplers that go along the unconditional
    # prediction (cfg++) keep a part of its noise; those that choose their own steps end at the least noise there is.
    error, loose = float((held - LATENT).norm() / LATENT.norm()), float((strict - LATENT).norm() / LATENT.norm())
    near = 0.5 if sampler in ("dpm_fast", "dpm_adaptive") else 0.25
    assert error < (loose if "cfg_pp" in sampler else max(0.05, near * loose))


def predicted(comfy, model, x: Tensor, sigma: float, cfg: float = 3.0) -> Tensor:
    """x̂₀ after guidance, by hand: two calls of the model and the formula of guidance."""
    x0 = []
    for value in (0.2, -0.1):
        context = torch.full((1, 2, 32), value)
        x0.append(model.model.apply_model(x, torch.full((len(x),), sigma), c_crossattn=context).detach())
    return x0[1] + cfg * (x0[0] - x0[1])


@pytest.mark.parametrize("kind", KINDS)
def test_one_iteration_over_the_whole_band_gives_the_models_own_noise(comfy, rigs, kind):
    rig = rigs[kind]
    sigma = float(rig.sigmas()[0])
    alpha, scale = scales(kind, sigma)
    x_t = alpha * LATENT + scale * NOISE
    epsilon = (x_t - alpha * predicted(comfy, rig.model, x_t, sigma)) / scale
    rig.run("euler", calibrator(1), noise=NOISE, latent=LATENT)
    assert torch.allclose(rig.started, epsilon, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_content_loss_falls_as_computed(comfy, kind):
    """For x̂₀ = k·x each iteration leaves 1 − α·k of the difference."""
    rig = Rig(comfy, kind, computable)
    sigma = rig.sigmas()[0]
    factor = 1 - scales(kind, float(sigma))[0] * float(gain(sigma, kind))
    found = calibrator(5)
    rig.run("euler", found, noise=NOISE, latent=LATENT)
    losses = found.last.content_loss
    assert losses == pytest.approx([losses[0] * factor**n for n in range(5)], rel=1e-4) and 0 < factor < 1


@pytest.mark.parametrize("kind", KINDS)
def test_previews_show_the_samplers_own_steps_only(rigs, kind):
    seen: list[tuple[int, Tensor, int]] = []
    rig = rigs[kind]
    rig.run("euler", calibrator(3), noise=NOISE, latent=LATENT, callback=lambda *a: seen.append((a[0], a[1], a[3])))
    with_ours = list(seen)
    start = rig.started
    seen.clear()
    rig.run("euler", noise=start, latent=LATENT, callback=lambda *a: seen.append((a[0], a[1], a[3])))
    assert [(i, n) for i, _, n in with_ours] == [(i, n) for i, _, n in seen]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(with_ours, seen, strict=True))


def test_soft_masks_reuse_what_the_model_would_say_at_the_same_noise(comfy, rigs):
    """With x̂₀ = k·x + c the model's answer at the calibrated start can be computed from the one before it."""
    rig = rigs["EPS"]
    given: list[Tensor] = []
    found = calibrator(1, reuse_prediction=True)
    rig.run("euler", found, noise=NOISE, latent=LATENT, mask=mask(), callback=lambda *a: given.append(a[1]))
    sigma, m = float(rig.sigmas()[0]), mask()
    x0 = predicted(comfy, rig.model, LATENT + sigma * NOISE, sigma)
    seen = m * x0 + (1 - m) * LATENT
    answer = x0 - m * (seen - LATENT)
    assert torch.allclose(given[0], m * answer + (1 - m) * LATENT, atol=1e-4)


def test_differential_masks_are_followed(comfy, rigs):
    rig = rigs["EPS"]
    model = rig.model.clone()
    model.set_model_denoise_mask_function(lambda sigma, mask, extra_options: (mask >= 0.9).float())
    found = calibrator(2)
    latents = rig.run("euler", found, noise=NOISE, latent=LATENT, mask=mask(), model=model)
    start = rig.started
    assert torch.equal(start[..., :6], NOISE[..., :6]) and not torch.equal(start[..., 6:], NOISE[..., 6:])
    assert torch.equal(latents, rig.run("euler", noise=start, latent=LATENT, mask=mask(), model=model))


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1.0), (5.0, 5.0), (None, 3.0)])
def test_guidance_while_calibrating(comfy, rigs, scale, expected):
    rig = rigs["FLOW"]
    sigma = float(rig.sigmas()[0])
    alpha, level = scales("FLOW", sigma)
    x0 = predicted(comfy, rig.model, alpha * LATENT + level * NOISE, sigma, expected)
    rig.run("euler", calibrator(1, guidance_scale=scale), noise=NOISE, latent=LATENT)
    assert torch.allclose(rig.started, NOISE - alpha / level * (x0 - LATENT), atol=1e-5)


def test_what_is_no_refinement_is_passed_on(comfy, rigs, caplog):
    rig = rigs["FLOW"]
    cases = (
        ("adds no noise", {"noise": torch.zeros_like(NOISE), "latent": LATENT}),
        ("latent is empty", {"noise": NOISE, "latent": torch.zeros_like(LATENT)}),
        ("pure noise", {"noise": NOISE, "latent": LATENT, "sigmas": rig.sigmas(5, 1.0)}),
    )
    for words, more in cases:
        plain, count = rig.run("euler", **more), rig.count
        found = calibrator(3)
        assert torch.equal(rig.run("euler", found, **more), plain) and rig.count == count
        assert words in found.last.note
    warned = calibrator(3)
    caplog.clear()
    for _ in range(3):
        rig.run("euler", warned, **cases[2][1])
    assert sum("can do nothing" in record.message for record in caplog.records) == 1


class TestTheNode:
    @pytest.fixture(scope="class")
    def nodes(self, comfy):
        from integrations.comfyui import nodes

        return nodes

    @pytest.fixture
    def model(self, comfy):
        return small_model(comfy, "EPS")

    def node(self, nodes, model, iterations=2, cutoff=1.0, reuse=False, guidance=-1.0):
        return nodes.NoiseCalibrationNode.execute(model, iterations, cutoff, reuse, guidance)[0]

    def test_a_clone_is_patched_never_the_users_model(self, nodes, comfy, model):
        patched = self.node(nodes, model)
        assert patched is not model and patched.is_clone(model) and not model.wrappers
        assert len(patched.get_wrappers("sampler_sample", KEY)) == 1

    def test_a_second_node_replaces_the_first(self, nodes, comfy, model):
        twice = self.node(nodes, self.node(nodes, model, iterations=5), iterations=2)
        (found,) = twice.get_wrappers("sampler_sample", KEY)
        assert found.config.iterations == 2
        latents = {"samples": LATENT}
        outcome = self.sampled(model=twice, latents=latents)
        assert torch.equal(outcome, self.sampled(model=self.node(nodes, model), latents=latents))

    def sampled(self, model, latents, **more):
        import nodes as builtin

        chosen = {"seed": 3, "steps": 5, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.6}
        chosen |= more
        return builtin.KSampler().sample(
            model, chosen["seed"], chosen["steps"], chosen["cfg"], chosen["sampler_name"], chosen["scheduler"],
            prompt(0.2), prompt(-0.1), latents, chosen["denoise"])[0]["samples"]  # fmt: skip

    def test_all_four_sampling_nodes_agree(self, nodes, comfy, model):
        import nodes as builtin
        from comfy_extras import nodes_custom_sampler as custom

        patched, latents = self.node(nodes, model), {"samples": LATENT}
        plain = self.sampled(model, latents)
        expected = self.sampled(patched, latents)
        assert not torch.equal(plain, expected)
        # 5 steps at denoise 0.625 are the last 5 of 8.
        advanced = builtin.KSamplerAdvanced().sample(
            patched, "enable", 3, 8, 3.0, "euler", "normal", prompt(0.2), prompt(-0.1), latents, 3, 10000, "disable"
        )[0]["samples"]
        sigmas = comfy.samplers.KSampler(patched, 8, "cpu", "euler", "normal", 1.0).sigmas[3:]
        sampler = comfy.samplers.sampler_object("euler")
        guider = custom.CFGGuider().get_guider(patched, prompt(0.2), prompt(-0.1), 3.0)[0]
        old = custom.SamplerCustom().sample(patched, True, 3, 3.0, prompt(0.2), prompt(-0.1), sampler, sigmas, latents)[
            0
        ]["samples"]
        new = custom.SamplerCustomAdvanced().sample(custom.Noise_RandomNoise(3), guider, sampler, sigmas, latents)[0][
            "samples"
        ]
        assert torch.equal(advanced, old) and torch.equal(old, new)
        same = self.sampled(patched, latents, denoise=0.625)
        assert torch.equal(same, advanced)

    def test_the_second_of_two_advanced_samplers_without_noise_is_left_alone(self, nodes, comfy, model):
        """The hand-over between Wan's two experts: the first adds noise and is calibrated, the second adds none."""
        import nodes as builtin

        def half(with_model, latents, noise, first, last, leftover):
            return builtin.KSamplerAdvanced().sample(
                with_model,
                noise,
                3,
                8,
                3.0,
                "euler",
                "normal",
                prompt(0.2),
                prompt(-0.1),
                latents,
                first,
                last,
                leftover,
            )[0]

        patched = self.node(nodes, model)
        middle = half(patched, {"samples": LATENT}, "enable", 3, 5, "enable")
        end = half(patched, middle, "disable", 5, 10000, "disable")
        assert torch.equal(end["samples"], half(model, middle, "disable", 5, 10000, "disable")["samples"])
        whole = half(patched, {"samples": LATENT}, "enable", 3, 10000, "disable")
        assert torch.allclose(end["samples"], whole["samples"], atol=1e-4)

    def test_the_report_waits_and_tells(self, nodes, comfy, model):
        patched = self.node(nodes, model, iterations=3)
        text, image = self.report(nodes, patched)
        assert text == "No sampler has run with this model yet."
        self.sampled(patched, {"samples": LATENT})
        # Nodes after ours (a LoRA, say) hand on a clone: it is the same run.
        text, image = self.report(nodes, patched.clone())
        (found,) = patched.get_wrappers("sampler_sample", KEY)
        assert all(f"{loss:.5f}" in text for loss in found.last.content_loss) and "3 more than without" in text
        assert image.shape == (1, 300, 480, 3) and 0 <= image.min() < image.max() <= 1
        assert "did not pass through" in self.report(nodes, model)[0]

    def report(self, nodes, model):
        found = nodes.CalibrationReport.execute(model, {"samples": LATENT})
        assert found.ui["text"] == (found[0],) and len(found.ui["images"]) == 1
        return found[0], found[1]

    def test_schemas_are_whole(self, nodes, comfy):
        for node in (nodes.NoiseCalibrationNode, nodes.CalibrationReport):
            schema = node.GET_SCHEMA()
            assert all(one.tooltip for one in (*schema.inputs, *schema.outputs)) and schema.description

    def test_interrupting_leaves_everything_clean_and_100_runs_leak_nothing(self, nodes, comfy, model):
        from comfy_extras import nodes_custom_sampler as custom

        stop = comfy.model_management.InterruptProcessingException
        patched = self.node(nodes, model, iterations=3, guidance=1.0, reuse=True)
        guider = custom.CFGGuider().get_guider(patched, prompt(0.2), prompt(-0.1), 3.0)[0]
        sigmas = comfy.samplers.KSampler(patched, 5, "cpu", "euler", "normal", 0.6).sigmas
        before = state(patched, guider)

        def run() -> Tensor:
            return custom.SamplerCustomAdvanced().sample(
                custom.Noise_RandomNoise(3), guider, comfy.samplers.sampler_object("euler"), sigmas, {"samples": LATENT}
            )[0]["samples"]

        expected, alive = run(), []
        network = patched.model.diffusion_model
        calls = 0

        def press(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:  # during the second of three predictions
                comfy.model_management.interrupt_current_processing()

        for index in range(100):
            handle = network.register_forward_pre_hook(press) if index % 2 else None
            calls = 0
            try:
                if handle is None:
                    assert torch.equal(run(), expected)
                else:
                    with pytest.raises(stop):
                        run()
                    assert calls == 2, "it went on after the interrupt"
            finally:
                if handle is not None:
                    handle.remove()
            assert state(patched, guider) == before
            del network.seen[:]
            gc.collect()
            alive.append(sum(1 for thing in gc.get_objects() if type(thing) is Tensor))
        assert max(alive[5:]) - min(alive[5:]) <= 2, alive
        assert not comfy.model_management.processing_interrupted()

    def test_a_guider_and_its_model_can_be_freed(self, nodes, comfy):
        patched = self.node(nodes, small_model(comfy, "EPS"), reuse=True)
        self.sampled(patched, {"samples": LATENT})
        gone = weakref.ref(patched.model)
        comfy.model_management.unload_all_models()
        del patched
        gc.collect()
        assert gone() is None


def state(patched: Any, guider: Any) -> Any:
    """All that a run could leave behind on the patcher and the guider."""
    return (
        {place: {key: list(some) for key, some in keys.items()} for place, keys in patched.wrappers.items()},
        {place: {key: list(some) for key, some in keys.items()} for place, keys in patched.callbacks.items()},
        repr(patched.model_options),
        sorted(patched.object_patches),
        sorted(patched.attachments),
        guider.cfg,
        id(guider.model_options),
        patched.model.current_patcher is None,
    )


def test_batches_and_videos(comfy, rigs):
    for shape in ((3, 4, 8, 12), (2, 4, 5, 8, 12)):
        latent, noise = picture(shape, 4), picture(shape, 5)
        for kind in KINDS:
            rig = rigs[kind]
            found = calibrator(2, cutoff=0.5)
            latents = rig.run("dpmpp_2m", found, noise=noise, latent=latent)
            assert latents.shape == shape and found.last.content_loss[1] < found.last.content_loss[0]
            # Each picture of a batch is calibrated for itself.
            together = rig.started
            rig.run("dpmpp_2m", calibrator(2, cutoff=0.5), noise=noise[:1], latent=latent[:1])
            assert np.allclose(together[:1], rig.started, atol=1e-5)


def test_context_windows(comfy, rigs):
    """Long videos through overlapping windows of five frames: calibrated as the whole they are sampled as."""
    rig = rigs["FLOW"]
    shape = (1, 4, 9, 8, 12)
    latent, noise = picture(shape, 4), picture(shape, 5)
    model = rig.model.clone()
    windows = comfy.context_windows
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("pyramid"),
        context_length=5, context_overlap=2, context_stride=1, closed_loop=False, dim=2)  # fmt: skip
    windows.create_prepare_sampling_wrapper(model)
    rig.model.model.diffusion_model.seen.clear()
    found = calibrator(3)
    latents = rig.run("euler", found, noise=noise, latent=latent, model=model)
    assert {size[2] for size in rig.model.model.diffusion_model.seen} == {5}
    assert list(found.last.content_loss) == sorted(found.last.content_loss, reverse=True)
    assert torch.equal(latents, rig.run("euler", noise=rig.started, latent=latent, model=model))


def test_packed_latents_of_video_and_sound(comfy, rigs):
    """Newer versions lay a video and its sound in one flat tensor; the sound's noise stays to the bit."""
    rig = rigs["FLOW"]
    video, sound = (1, 4, 3, 8, 12), (1, 2, 10, 6)
    size = 4 * 3 * 8 * 12
    latent, noise = picture((1, 1, size + 120), 4), picture((1, 1, size + 120), 5)
    rig.model.model.latent_shapes = [video, sound]
    try:
        found = calibrator(2, cutoff=0.5)
        rig.run("euler", found, noise=noise, latent=latent, cfg=1.0)
        start = rig.started
    finally:
        del rig.model.model.latent_shapes
    assert torch.equal(start[..., size:], noise[..., size:]) and len(found.last.content_loss) == 2
    difference = (start - noise)[..., :size].reshape(video)
    assert difference.abs().max() > 0.1
    # What was changed lies in the low band of each frame.
    twice = low_pass(difference.double().numpy(), 0.5)
    assert np.abs(np.fft.rfft2(difference.double().numpy() - twice)).max() < 0.5 * np.abs(np.fft.rfft2(twice)).max()
    without = calibrator(2)
    rig.run("euler", without, noise=noise, latent=latent, cfg=1.0)
    assert "no height and width" in without.last.note


@pytest.fixture(scope="module")
def unet(comfy):
    """A real, tiny UNet of ComfyUI's own class, which runs the wrappers that EasyCache and ControlNet need."""
    from .comfyui_unet import tiny_unet

    return tiny_unet(comfy)


def test_caches_do_not_count_calibration_as_steps(comfy, rigs, unet):
    from comfy_extras import nodes_easycache as caches

    rig = Rig(comfy, "EPS")
    latent, noise, sigmas = picture((1, 4, 16, 16), 2), picture((1, 4, 16, 16), 3), rig.sigmas(12, 0.7)
    for node in (caches.EasyCacheNode, caches.LazyCacheNode):
        model = node.execute(unet, 0.5, 0.0, 1.0, False)[0]
        more = {"latent": latent, "sigmas": sigmas, "model": model}
        found = calibrator(3)
        latents, count, start = rig.run("euler", found, noise=noise, **more), rig.count, rig.started
        plain = rig.run("euler", **{**more, "noise": start})
        assert torch.equal(latents, plain) and count == rig.count + 3 and len(found.last.content_loss) == 3
        saving = calibrator(3, reuse_prediction=True)
        rig.run("euler", saving, noise=noise, **more)
        assert saving.last.saved and torch.isfinite(rig.started).all()


def test_lora_and_controlnet(comfy, unet):
    """A LoRA changes what calibrates; a ControlNet's hint reaches calibration and is asked once per prediction."""
    rig = Rig(comfy, "EPS")
    latent, noise, sigmas = picture((1, 4, 16, 16), 2), picture((1, 4, 16, 16), 3), rig.sigmas(4, 0.5)
    more = {"noise": noise, "latent": latent, "sigmas": sigmas}
    rig.run("euler", calibrator(2), model=unet, **more)
    plain = rig.started
    styled = unet.clone()
    key = "diffusion_model.out.2.weight"
    weight = comfy.utils.get_attr(unet.model, key)
    styled.add_patches({key: ("diff", (0.5 * torch.ones_like(weight),))})
    untouched = weight.clone()
    latents = rig.run("euler", calibrator(2), model=styled, **more)
    assert not torch.allclose(rig.started, plain)
    assert torch.equal(latents, rig.run("euler", model=styled, **{**more, "noise": rig.started}))
    comfy.model_management.unload_all_models()
    assert torch.equal(comfy.utils.get_attr(unet.model, key), untouched)
    from .comfyui_unet import controlled

    with controlled(comfy, rig) as asked:
        latents = rig.run("euler", calibrator(2), model=unet, **more)
        assert asked.count == 2 + 4 and not torch.allclose(rig.started, plain)
        start = rig.started
        assert torch.equal(latents, rig.run("euler", model=unet, **{**more, "noise": start}))
