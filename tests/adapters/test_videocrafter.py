"""The VideoCrafter adapter over a small real model; its own code is tested in tests/hosts."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import nc_refiner
from nc_refiner import CalibratedRefiner, NoiseCalibration, VideoClip
from nc_refiner.adapters import create
from nc_refiner.adapters.videocrafter import VideoCrafterAdapter
from nc_refiner.adapters.videocrafter import attention as choice
from nc_refiner.adapters.videocrafter.checkout import isolated, load_model
from nc_refiner.adapters.videocrafter.checkpoint import load_into, read_state
from nc_refiner.adapters.videocrafter.schedule import ddim_timesteps
from nc_refiner.refining import conformance

from .videocrafter_model import SmallLatentDiffusion

PICTURE = torch.rand((3, 16, 16), generator=torch.Generator().manual_seed(2))


def adapter(eta=1.0, image=False, **model):
    return VideoCrafterAdapter(
        SmallLatentDiffusion(image=image, **model), eta=eta, guidance_scale=3.0, image=PICTURE if image else None
    )


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("use_scale", [False, True], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("parameterization", ["eps", "v"])
@pytest.mark.parametrize("image", [False, True], ids=["text", "image"])
def test_conformance(parameterization, use_scale, image, eta):
    made = adapter(eta, image, parameterization=parameterization, use_scale=use_scale)
    conformance.check(made, lossless=False).raise_for_failures()


@pytest.mark.parametrize("use_scale", [False, True])
@pytest.mark.parametrize("parameterization", ["eps", "v"])
def test_the_estimate_is_exact_for_a_network_that_knows_the_noise(monkeypatch, parameterization, use_scale):
    made = adapter(parameterization=parameterization, use_scale=use_scale)
    x0, noise = (torch.randn((1, 12, 4, 8, 8), generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    t = torch.tensor([601])
    x_t = made.model.q_sample(x0, t, noise=noise)
    bar = made.model.alphas_cumprod[601].double()
    scaled = x0 * (0.7 if use_scale else 1.0)
    output = noise if parameterization == "eps" else (bar.sqrt() * noise - (1 - bar).sqrt() * scaled).float()
    monkeypatch.setattr(made.model, "apply_model", lambda *_: output)
    assert torch.allclose(made.predict_x0(x_t, t[0], made.condition()), x0, atol=2e-5)
    assert torch.allclose(made.noise_level(t[0]).add_noise(x0, noise), x_t, atol=1e-6)


@pytest.mark.parametrize("parameterization", ["eps", "v"])
def test_step_and_denoise_agree(parameterization):
    made = adapter(parameterization=parameterization, use_scale=True)
    condition, timesteps = made.condition("a camel"), made.timesteps(10, 0.6)
    x_t = torch.randn((1, 12, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    whole = made.denoise(x_t, timesteps, condition, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    for index, timestep in enumerate(timesteps):
        x_t = made.step(x_t, made.predict_x0(x_t, timestep, condition), timesteps, index, generator)
    assert torch.allclose(whole, x_t, atol=1e-4)


def test_the_last_step_keeps_the_level_of_timestep_0():
    made = adapter(eta=0.0, use_scale=True)
    timesteps = made.timesteps(10, 0.1)
    x0, noise = (torch.randn((1, 12, 1, 8, 8), generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    x_t = made.noise_level(timesteps.values[-1]).add_noise(x0, noise)
    found = made.step(x_t, x0, timesteps, len(timesteps) - 1)
    assert torch.allclose(found, made.noise_level(torch.tensor(0)).add_noise(x0, noise), atol=2e-5)


def test_timesteps_follow_the_hosts_rule():
    made = adapter()
    assert made.timesteps(50, 0.6).values.tolist() == list(range(581, 0, -20))
    assert len(ddim_timesteps(1000, 30)) == 31
    assert made.timesteps(50, made.strength_at(600)).first == 581
    for bad in (0, 1001, 3, 9, 27, 36):
        with pytest.raises(ValueError, match="num_inference_steps"):
            made.timesteps(bad, 0.6)
    with pytest.raises(ValueError, match="2 and 4"):
        made.timesteps(3, 0.6)
    with pytest.raises(ValueError, match="no step"):
        made.timesteps(50, 0.0001)


def test_every_supported_step_count_stays_inside_the_schedule():
    for steps in range(1, 1001):
        stride = 1000 // steps
        if (999 // stride) * stride + 1 < 1000:
            assert int(ddim_timesteps(1000, steps)[-1]) < 1000
        else:
            with pytest.raises(ValueError):
                ddim_timesteps(1000, steps)


def test_conditioning_reaches_the_network():
    made = adapter()
    x_t, timestep = torch.randn((1, 12, 2, 8, 8), generator=torch.Generator().manual_seed(1)), torch.tensor(301)
    plain = made.predict_x0(x_t, timestep, made.condition("a camel"))
    assert made.evaluations == 2
    assert not torch.equal(plain, made.predict_x0(x_t, timestep, made.condition("a horse")))
    assert not torch.equal(plain, made.predict_x0(x_t, timestep, made.condition("a camel", "blurry")))
    assert not torch.equal(plain, made.predict_x0(x_t, timestep, made.condition("a camel", fps=8)))
    before = made.evaluations
    made.predict_x0(x_t, timestep, made.condition("a camel"), 1.0)
    assert made.evaluations == before + 1
    made.model.uncond_type = "zero_embed"
    assert not made.condition("a camel").negative["c_crossattn"][0].any()


def test_images_are_needed_exactly_where_they_are_used():
    with pytest.raises(ValueError, match="image-to-video"):
        VideoCrafterAdapter(SmallLatentDiffusion(image=True)).condition("a camel")
    with pytest.raises(ValueError, match="text-to-video"):
        adapter().condition("a camel", image=PICTURE)
    made = adapter(image=True)
    other = made.condition("a camel", image=1 - PICTURE)
    assert not torch.equal(made.condition("a camel").positive["c_crossattn"][0], other.positive["c_crossattn"][0])


def test_refiner_runs_windows_and_repeats_itself():
    refiner = CalibratedRefiner(create("videocrafter", model=SmallLatentDiffusion()), NoiseCalibration(iterations=2))
    clip = VideoClip(torch.rand((7, 3, 10, 12), generator=torch.Generator().manual_seed(1)))
    options = {"prompt": "a camel", "seed": 3, "num_inference_steps": 10, "overlap": 2}
    one, two = refiner(clip, **options), refiner(clip, **options)
    assert torch.equal(one.clip.frames, two.clip.frames) and one.clip.frames.shape == clip.frames.shape
    windows, steps = len(one.receipt["windows"]), len(one.receipt["timesteps"])
    assert one.receipt["evaluations"] == {"calibration": 2 * 2 * windows, "denoising": 2 * (steps - 1) * windows}
    json.dumps(one.receipt)


def test_bfloat16_network_keeps_float32_latents():
    made = VideoCrafterAdapter(SmallLatentDiffusion(), dtype="bfloat16")
    x_t = torch.randn((1, 12, 2, 8, 8), generator=torch.Generator().manual_seed(1))
    assert made.predict_x0(x_t, torch.tensor(301), made.condition("a")).dtype == torch.float32
    with pytest.raises(ValueError, match="dtype"):
        VideoCrafterAdapter(SmallLatentDiffusion(), dtype="int8")


def test_bad_options_are_told():
    with pytest.raises(TypeError, match="no VideoCrafter model"):
        VideoCrafterAdapter(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="x0"):
        VideoCrafterAdapter(SmallLatentDiffusion("x0"))
    with pytest.raises(TypeError, match="either"):
        create("videocrafter")
    with pytest.raises(ValueError, match="fps"):
        VideoCrafterAdapter(SmallLatentDiffusion(), fps=0)
    with pytest.raises(ValueError, match="generator"):
        made = adapter(eta=1.0)
        made.denoise(torch.zeros((1, 12, 1, 8, 8)), made.timesteps(10, 0.5), made.condition())


class Danger:
    def __reduce__(self):
        return (print, ("ran",))


def test_checkpoints_that_would_run_code_are_refused(tmp_path, capsys):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "callbacks": Danger()}, path)
    with pytest.raises(ValueError, match="refused"):
        read_state(path)
    assert "ran" not in capsys.readouterr().out
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError):
        read_state(path)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("kind", ["plain", "state_dict", "module", "safetensors"])
def test_every_layout_of_checkpoint_is_read(tmp_path, kind):
    state = SmallLatentDiffusion().state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.ckpt")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    elif kind == "module":
        torch.save({"module": {f"_forward_module.{name}": value for name, value in state.items()}}, path)
    else:
        torch.save(state if kind == "plain" else {"state_dict": state}, path)
    fresh = SmallLatentDiffusion()
    for parameter in fresh.parameters():
        parameter.data.zero_()
    load_into(fresh, path)
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())
    with pytest.raises(ValueError, match="does not fit"):
        load_into(nn.Linear(1, 1), path)


def test_a_folder_that_is_no_checkout_and_a_config_with_foreign_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="no VideoCrafter checkout"), isolated(tmp_path):
        pass
    config, checkpoint = tmp_path / "c.yaml", tmp_path / "c.ckpt"
    checkpoint.touch()
    config.write_text("model: {target: os.system, params: {unet_config: {params: {}}}}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"os\.system"):
        load_model(tmp_path, config, checkpoint)
    config.write_text("model: 3", encoding="utf-8")
    with pytest.raises(ValueError, match="no VideoCrafter config"):
        load_model(tmp_path, config, checkpoint)


class Attention(nn.Module):
    """An attention layer as the host writes it: a plain and an efficient forward, chosen per instance."""

    def __init__(self):
        super().__init__()
        self.dim_head = 4
        self.forward = self.efficient_forward

    def forward(self, x, context=None, mask=None):
        weights = (x @ x.transpose(1, 2) * self.dim_head**-0.5).softmax(dim=-1)
        return weights @ x if mask is None else (weights * mask) @ x

    def efficient_forward(self, x, context=None, mask=None):
        return xformers.ops.memory_efficient_attention(x, x, x, attn_bias=None, op=None)  # noqa: F821


def test_layers_that_want_xformers_without_a_kernel_get_pytorchs_attention():
    layer = Attention()
    x = torch.randn((2, 5, 4), generator=torch.Generator().manual_seed(1))
    with pytest.raises(NameError):
        layer(x)
    before = dict(vars(layer))
    layers = choice.attention_layers(layer)
    assert layers == [layer]
    with choice.working_attention(layers, torch.device("cpu"), torch.float32):
        assert torch.allclose(layer(x), Attention.forward(layer, x), atol=1e-6)
        mask = torch.ones((2, 5, 5))
        assert torch.equal(layer(x, mask=mask), Attention.forward(layer, x, mask=mask))
    assert vars(layer) == before


def test_wrap_leaves_other_uses_of_q_sample_alone_and_comes_off():
    model = SmallLatentDiffusion()
    before = dict(vars(model))
    x0, t = torch.zeros((1, 12, 1, 4, 4)), torch.tensor([301])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    stock = model.q_sample(x0, t, noise=noise)
    assert nc_refiner.wrap(model, iterations=2) is model
    assert torch.equal(stock, model.q_sample(x0, t, noise=noise))
    with nc_refiner.calibrated(model, iterations=1):
        assert model.q_sample.config.iterations == 1
    assert model.q_sample.config.iterations == 2
    assert nc_refiner.unwrap(nc_refiner.unwrap(model)) is model and vars(model) == before
    with pytest.raises(ValueError, match="reuse_prediction"):
        nc_refiner.wrap(model, reuse_prediction=True)


def test_a_folder_of_clips_is_refined(tmp_path):
    from integrations.videocrafter.refine_folder import main, refine_folder
    from nc_refiner.video import read_clip, write_clip

    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a_camel", "b_horse"):
        write_clip(
            VideoClip(torch.rand((5, 3, 16, 16), generator=torch.Generator().manual_seed(1))), clips / f"{name}.mp4"
        )
    refiner = CalibratedRefiner(adapter(image=True), NoiseCalibration(iterations=1))
    written = refine_folder(refiner, clips, tmp_path / "out", ddim_steps=4)
    assert [path.name for path in written] == ["a_camel.mp4", "b_horse.mp4"]
    assert read_clip(written[0]).frames.shape == (5, 3, 16, 16)
    receipt = json.loads((tmp_path / "out" / "a_camel.receipt.json").read_text(encoding="utf-8"))
    assert receipt["settings"]["prompt"] == "a camel" and receipt["adapter"]["image_conditioned"]
    stamps = [path.stat().st_mtime_ns for path in written]
    (tmp_path / "out" / "b_horse.receipt.json").unlink()  # as where a run was stopped
    assert refine_folder(refiner, clips, tmp_path / "out", ddim_steps=4) == written[1:]
    assert written[0].stat().st_mtime_ns == stamps[0] and written[1].stat().st_mtime_ns > stamps[1]
    larger = refine_folder(refiner, clips, tmp_path / "out", ddim_steps=4, overwrite=True, size=(32, 48))
    assert len(larger) == 2 and read_clip(larger[0]).frames.shape == (5, 3, 32, 48)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("only one\n", encoding="utf-8")
    with pytest.raises(ValueError, match="1 prompts for 2 clips"):
        refine_folder(refiner, clips, tmp_path / "out", prompts)
    paths = ["--root", "none", "--config", "none", "--ckpt_path", "none", "--cond_input", str(clips), "--savedir", "x"]
    assert main(paths) == 2
