"""VideoCrafter's own code with tiny weights: `VIDEOCRAFTER_ROOT=path/to/clone pytest tests/hosts/test_videocrafter.py`.

See README.md in this folder for the packages it needs; skipped, with the reason, without them or a clone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import nc_refiner
from nc_refiner import NoiseCalibration, VideoClip, calibrate
from nc_refiner.adapters.videocrafter import VideoCrafterAdapter
from nc_refiner.adapters.videocrafter.checkout import isolated
from nc_refiner.adapters.videocrafter.held import hold_steps
from nc_refiner.holding import Hold
from nc_refiner.mask import latent_weights
from nc_refiner.refining import conformance
from nc_refiner.video import write_clip

from .videocrafter_models import WIDTH, checkout, load_sampling, write_checkpoint, write_config

pytestmark = pytest.mark.slow

SHAPE = (1, 4, 4, 8, 8)
STEPS, START = 10, 0.6
PROMPT, FPS, SCALE = "a camel walking in the desert", 28, 3.0


@pytest.fixture(scope="module")
def root():
    return checkout()


@pytest.fixture(scope="module")
def funcs(root):
    return load_sampling(root)


@pytest.fixture(scope="module", params=["text", "image"])
def loaded(request, root, tmp_path_factory):
    """An adapter loaded from a checkpoint of tiny weights, text- or image-conditioned."""
    config = write_config(tmp_path_factory.mktemp(request.param), request.param == "image")
    checkpoint = write_checkpoint(root, config)
    picture = torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(5)) if request.param == "image" else None
    before = torch.get_rng_state()
    adapter = VideoCrafterAdapter.from_checkout(
        root, config, checkpoint, device="cpu", fps=FPS, guidance_scale=SCALE, image=picture
    )
    assert torch.equal(before, torch.get_rng_state())
    return adapter


@pytest.fixture(params=[True, False], ids=["scaled", "unscaled"])
def adapter(request, loaded):
    nc_refiner.unwrap(loaded.model)
    loaded.model.use_scale = request.param
    yield loaded
    nc_refiner.unwrap(loaded.model)
    loaded.eta, loaded.model.use_scale = 1.0, True


def reference():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def host_call(funcs, adapter, eta, seed=3):
    """The host's own call, its prediction count and the global state it leaves."""
    counted = []
    handle = adapter.model.model.register_forward_pre_hook(lambda *_: counted.append(1))
    condition = adapter.condition(PROMPT).positive
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        video = funcs.batch_ddim_sampling(
            adapter.model, condition, list(SHAPE), 1, STEPS, eta, SCALE, x0=reference(), start_timesteps=START
        )
        state = torch.get_rng_state()
    handle.remove()
    return video, len(counted), state


def test_loading_leaves_no_module_behind(loaded):
    assert not [name for name in sys.modules if name.partition(".")[0] == "lvdm"]


def test_weights_are_not_trivial(adapter):
    x_t = reference()
    condition = adapter.condition(PROMPT)
    timesteps = adapter.timesteps(STEPS, START)
    one, other = (adapter._output(x_t, timesteps.first, condition, scale) for scale in (1.0, SCALE))
    assert float(one.std()) > 0.01 and not torch.allclose(one, other)
    slow = adapter.condition(PROMPT, fps=4)
    assert not torch.equal(one, adapter._output(x_t, timesteps.first, slow, 1.0))


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("config", [{"iterations": 0}, {"iterations": 3, "cutoff": 0.0}])
def test_no_calibration_is_the_host_bit_for_bit(funcs, adapter, eta, config):
    stock, evaluations, state = host_call(funcs, adapter, eta)
    nc_refiner.wrap(adapter.model, **config)
    video, again, after = host_call(funcs, adapter, eta)
    assert torch.equal(stock, video) and again == evaluations and torch.equal(state, after)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_wrapping_costs_exactly_n_guided_evaluations_and_comes_off(funcs, adapter, eta):
    stock, evaluations, state = host_call(funcs, adapter, eta)
    attributes = dict(vars(adapter.model))
    nc_refiner.wrap(adapter.model, iterations=2, cutoff=0.5)
    video, more, after = host_call(funcs, adapter, eta)
    assert more == evaluations + 2 * 2
    assert torch.equal(state, after), "the host's use of the global random state changed"
    assert len(adapter.model.calibration_trace.content_loss) == 2
    assert not torch.allclose(stock, video)
    nc_refiner.unwrap(adapter.model)
    assert vars(adapter.model) == attributes
    again, count, _ = host_call(funcs, adapter, eta)
    assert torch.equal(stock, again) and count == evaluations


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("iterations", [0, 2])
def test_the_adapter_equals_the_wrapped_host(funcs, adapter, eta, iterations):
    with nc_refiner.calibrated(adapter.model, iterations=iterations, cutoff=0.5):
        video, _, _ = host_call(funcs, adapter, eta)
    adapter.eta = eta
    condition, timesteps = adapter.condition(PROMPT), adapter.timesteps(STEPS, START)
    generator = torch.Generator().manual_seed(3)
    torch.randn(SHAPE, generator=generator)  # the host's sampler draws start noise it then replaces
    noise = torch.randn(SHAPE, generator=generator)
    x_t = adapter.model.q_sample(reference(), timesteps.first.view(1), noise=noise)
    level = adapter.noise_level(timesteps.first)
    assert torch.allclose(level.add_noise(reference(), noise), x_t, atol=1e-6)
    done = calibrate(
        x_t,
        reference(),
        level,
        lambda latents: adapter.predict_x0(latents, timesteps.first, condition),
        NoiseCalibration(iterations=iterations, cutoff=0.5),
    )
    latents = adapter.denoise(done.x_t, timesteps, condition, generator=generator)
    ours = adapter.decode(latents)
    theirs = ((video[0, 0].transpose(0, 1) + 1) / 2).clamp(0, 1)
    assert torch.equal(ours, theirs)


BEYOND = [
    {"mask": torch.tensor([[1.0, 0.0]])},
    {"mask": torch.tensor([[1.0, 0.0]]), "cutoff_outside": 0.5, "objective": "colour_safe", "cutoff_time": 0.5},
    {"hold": 0.7},
    {"hold": 0.7, "mask": torch.tensor([[1.0, 0.0]])},
]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("more", BEYOND, ids=lambda more: "+".join(more))
def test_what_goes_beyond_the_paper_is_the_adapters_too(funcs, adapter, eta, more):
    config = NoiseCalibration(iterations=1, **more)
    stock, evaluations, state = host_call(funcs, adapter, eta)
    attributes = dict(vars(adapter.model))
    with nc_refiner.calibrated(adapter.model, config):
        video, made, after = host_call(funcs, adapter, eta)
    assert vars(adapter.model) == attributes
    assert made == evaluations + 2 and torch.equal(state, after)
    adapter.eta = eta
    condition, timesteps = adapter.condition(PROMPT), adapter.timesteps(STEPS, START)
    generator = torch.Generator().manual_seed(3)
    torch.randn(SHAPE, generator=generator)
    noise = torch.randn(SHAPE, generator=generator)
    x_t = adapter.model.q_sample(reference(), timesteps.first.view(1), noise=noise)
    level, weights = adapter.noise_level(timesteps.first), latent_weights(config.mask, reference())

    def predict(latents):
        return adapter.predict_x0(latents, timesteps.first, condition)

    done = calibrate(x_t, reference(), level, predict, config, weights)
    hold = Hold.of(reference(), level, config, weights)
    ours = adapter.decode(adapter.denoise(done.x_t, timesteps, condition, generator=generator, hold=hold))
    theirs = ((video[0, 0].transpose(0, 1) + 1) / 2).clamp(0, 1)
    plain = ((stock[0, 0].transpose(0, 1) + 1) / 2).clamp(0, 1)
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, plain, atol=1e-3)


def test_masks_of_ones_and_zeros_and_a_hold_that_comes_off(funcs, adapter):
    stock, evaluations, _ = host_call(funcs, adapter, 0.0)
    with nc_refiner.calibrated(adapter.model, iterations=1):
        strict, _, _ = host_call(funcs, adapter, 0.0)
    with nc_refiner.calibrated(adapter.model, iterations=1, mask=torch.ones(2, 3)):
        assert torch.equal(host_call(funcs, adapter, 0.0)[0], strict)
    with nc_refiner.calibrated(adapter.model, iterations=1, hold=1.0, mask=torch.zeros(2, 3)):
        zeros, made, _ = host_call(funcs, adapter, 0.0)
    assert torch.equal(zeros, stock) and made == evaluations
    sampler = funcs.DDIMSampler(adapter.model)
    sampler.make_schedule(STEPS, ddim_eta=0.0, verbose=False)
    held = Hold.of(reference(), adapter.noise_level(torch.tensor(501)), NoiseCalibration(hold=1.0))
    hold_steps(sampler, held, reference(), 4)
    condition = adapter.condition(PROMPT)
    sampler.p_sample_ddim(reference() + 0, condition.positive, torch.tensor([401]), index=4)
    assert "p_sample_ddim" not in vars(sampler), "a sampling of other latents must not be held"


def test_the_estimate_is_the_samplers_own(funcs, adapter):
    sampler = funcs.DDIMSampler(adapter.model)
    sampler.make_schedule(STEPS, ddim_eta=0.0, verbose=False)
    condition, timesteps = adapter.condition(PROMPT), adapter.timesteps(STEPS, START)
    x_t = reference()
    _, x0 = sampler.p_sample_ddim(
        x_t,
        condition.positive,
        timesteps.first.view(1),
        index=len(timesteps) - 1,
        unconditional_guidance_scale=SCALE,
        unconditional_conditioning=condition.negative,
    )
    found = adapter.predict_x0(x_t, timesteps.first, condition)
    assert torch.equal(found, x0)


def test_the_whole_band_once_gives_the_networks_own_noise(adapter):
    condition, timesteps = adapter.condition(PROMPT), adapter.timesteps(STEPS, START)
    level = adapter.noise_level(timesteps.first)
    x_t = level.add_noise(reference(), torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)))
    epsilon = adapter._output(x_t, timesteps.first, condition, None)
    done = calibrate(
        x_t,
        reference(),
        level,
        lambda latents: adapter.predict_x0(latents, timesteps.first, condition),
        NoiseCalibration(iterations=1, cutoff=1.0),
    )
    error = (level.noise_in(done.x_t, reference()) - epsilon).norm() / epsilon.norm()
    assert float(error) < 1e-6


def test_conformance(adapter):
    conformance.check(adapter, lossless=False).raise_for_failures()


def test_the_plain_latents_are_the_hosts_mode(adapter, root):
    frames = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(4))
    pixels = (2 * frames - 1).transpose(0, 1)[None]
    posterior = adapter.model.first_stage_model.encode(pixels[:, :, 1])
    wanted = adapter.model.get_first_stage_encoding(posterior, noise=torch.zeros_like(posterior.mean))
    assert torch.allclose(adapter.encode(frames)[:, :, 1], wanted, atol=1e-7)


def test_long_clips_through_windows_are_reproducible(adapter):
    refiner = nc_refiner.CalibratedRefiner(adapter, NoiseCalibration(iterations=1))
    clip = VideoClip(torch.rand((7, 3, 40, 32), generator=torch.Generator().manual_seed(6)))
    settings = {"prompt": PROMPT, "strength": 0.3, "num_inference_steps": STEPS, "seed": 9, "overlap": 1}
    before = torch.get_rng_state()
    one, two = (refiner(clip, **settings) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.clip.frames, two.clip.frames) and one.clip.frames.shape == clip.frames.shape
    assert len(one.receipt["windows"]) > 1


def test_isolation_outlives_a_foreign_utils(root, tmp_path, monkeypatch):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").write_text("mine = True\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "utils", raising=False)
    import utils as mine

    with isolated(root):
        from utils.utils import instantiate_from_config

        assert callable(instantiate_from_config)
    assert sys.modules["utils"] is mine


def test_the_benchmark_runs_the_real_network_in_half_precision(root, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    import benchmark_videocrafter as benchmark

    network = benchmark.build_network(root, write_config(tmp_path, image=False))
    adapter = VideoCrafterAdapter(benchmark._Timed(network, 4, WIDTH), dtype="bfloat16")
    rows = benchmark.measure_adapter(adapter, SHAPE, STEPS, START, repeats=1)
    assert [row["evaluations"] - rows[0]["evaluations"] for row in rows] == [0, 2, 4, 6]


def test_the_published_image_to_video_configuration(root, tmp_path):
    """Embedder V2 and Resampler; written for open_clip 2.22, which the loader bridges to whatever is installed."""
    config = write_config(tmp_path, image=True, published=True)
    checkpoint = write_checkpoint(root, config)
    pictures = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(5))
    adapter = VideoCrafterAdapter.from_checkout(
        root, config, checkpoint, device="cpu", fps=8, guidance_scale=SCALE, image=pictures[0]
    )
    first, second = (adapter.condition(PROMPT, image=picture) for picture in pictures)
    assert first.positive["c_crossattn"][0].shape == (1, 77 + 16, WIDTH)
    assert not torch.equal(first.positive["c_crossattn"][0], second.positive["c_crossattn"][0])
    # Batches are kept apart: attention over the batch axis would mix the pictures.
    both = adapter.model.get_image_embeds(2 * pictures - 1)
    alone = adapter.model.get_image_embeds(2 * pictures[:1] - 1)
    assert torch.allclose(both[:1], alone, atol=1e-5)
    visual = adapter.model.embedder.model.visual
    if "input_patchnorm" in vars(visual):
        del visual.input_patchnorm
        with pytest.raises(RuntimeError, match=r"open_clip_torch==2\.22\.0"):
            adapter.condition(PROMPT)


def test_half_precision_leaves_the_users_network_as_it_is(root, tmp_path):
    config = write_config(tmp_path, image=False)
    checkpoint = write_checkpoint(root, config)
    model = VideoCrafterAdapter.from_checkout(root, config, checkpoint, device="cpu").model
    before = {name: parameter.dtype for name, parameter in model.named_parameters()}
    half = VideoCrafterAdapter(model, dtype="bfloat16")
    x_t = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.isfinite(half.predict_x0(x_t, torch.tensor(301), half.condition(PROMPT))).all()
    assert {name: parameter.dtype for name, parameter in model.named_parameters()} == before


def test_sampling_past_the_calibration_warns_once(root, funcs, tmp_path):
    config = write_config(tmp_path, image=False)
    model = VideoCrafterAdapter.from_checkout(root, config, write_checkpoint(root, config), device="cpu").model
    condition = {
        "c_crossattn": [model.get_learned_conditioning([PROMPT])],
        "fps": torch.tensor([FPS]),
    }
    nc_refiner.wrap(model, iterations=1)
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="without start_timesteps it starts from pure noise"):
        funcs.batch_ddim_sampling(model, condition, SHAPE, ddim_steps=4, x0=x0)
    with pytest.warns(UserWarning, match="outside a sampler"):
        model.q_sample(x0, torch.tensor([301]))
    nc_refiner.unwrap(model)


def test_the_front_pages_snippet_runs(funcs, adapter):
    pages = ("README.md", "docs/guides/videocrafter.md")
    texts = [(Path(__file__).parents[2] / name).read_text(encoding="utf-8") for name in pages]
    found = {text.split("<!-- snippet: videocrafter -->\n```py\n", 1)[1].split("```", 1)[0] for text in texts}
    assert len(found) == 1, "the README and the guide show the same lines"
    stock, _, _ = host_call(funcs, adapter, 1.0)
    names = {
        "nc_refiner": nc_refiner,
        "model": adapter.model,
        "cond": adapter.condition(PROMPT).positive,
        "noise_shape": list(SHAPE),
        "latents": reference(),
        "batch_ddim_sampling": funcs.batch_ddim_sampling,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        exec(found.pop().replace("x0=", "ddim_steps=4, x0="), names)
    assert names["samples"].shape == stock.shape and torch.isfinite(names["samples"]).all()
    again, _, _ = host_call(funcs, adapter, 1.0)
    assert torch.equal(stock, again)


def test_the_readmes_command_runs_and_resumes(root, tmp_path):
    from integrations.videocrafter.refine_folder import main

    config = write_config(tmp_path, image=False)
    (tmp_path / "clips").mkdir()
    frames = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    write_clip(VideoClip(frames, 8.0), tmp_path / "clips" / "a.mp4")
    (tmp_path / "prompts.txt").write_text("a camel\n", encoding="utf-8")
    text = (Path(__file__).parents[2] / "integrations" / "videocrafter" / "README.md").read_text(encoding="utf-8")
    command = text[text.index("python -m nc_refiner.integrations.videocrafter.refine_folder") :].split("```", 1)[0]
    ours = {
        "--root": str(root),
        "--config": str(config),
        "--ckpt_path": str(write_checkpoint(root, config)),
        "--cond_input": str(tmp_path / "clips"),
        "--prompt_file": str(tmp_path / "prompts.txt"),
        "--savedir": str(tmp_path / "refined"),
        "--ddim_steps": "4",
    }
    words = command.replace("\\\n", " ").split()[3:]
    arguments = [ours.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    assert set(ours) <= set(words) and main(arguments) == 0
    made = tmp_path / "refined" / "a.mp4"
    stamp = made.stat().st_mtime_ns
    receipt = json.loads((tmp_path / "refined" / "a.receipt.json").read_text(encoding="utf-8"))
    assert receipt["settings"]["prompt"] == "a camel" and receipt["adapter"]["fps"] == 28
    assert main(arguments) == 0 and made.stat().st_mtime_ns == stamp
